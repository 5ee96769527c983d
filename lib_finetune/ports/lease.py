"""A turn's right to the host's weights, and the text tools beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Lease:
    """One turn's right to the host's weights; valid until the context manager that gave it is left.

    Attributes:
        tensors: names of the original SD layout ("model.diffusion_model.…", "cond_stage_model.transformer.text_model.…",
            "first_stage_model.…") to detached tensors that share the host's storage, on `device`, clean of LoRA patches.
            Only the parts that were asked for are sure to be on `device`.
        alphas_cumprod: [1000] float32, the undistorted schedule of the model, on `device`.
        scale_factor: latents = scale_factor × posterior sample (0.18215).
        device: where the host computes.
        moved_s: seconds that it took to bring parts to the device and to send others away.
    """

    tensors: Mapping[str, torch.Tensor]
    alphas_cumprod: torch.Tensor
    scale_factor: float
    device: torch.device
    moved_s: float = 0.0


@dataclass(frozen=True)
class TextTools:
    """What turns words into token ids, as the host does it.

    Attributes:
        tokenizer: a transformers CLIPTokenizer (start 49406, end 49407).
        heads: attention heads of the text model (not to be seen in its weights).
        clip_skip: the host's clip skip, 1 = last layer.
        activation: the text model's activation ("quick_gelu").
    """

    tokenizer: Any
    heads: int
    clip_skip: int
    activation: str = "quick_gelu"
