"""LoRA and its family: trains patches of UNet and text encoder; the model stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

from lib_finetune.text.prompts import TextEncoder
from lib_finetune.training.adapters import Adapter
from lib_finetune.training.methods.denoising import Denoiser, PriorPrediction, batch_loss

if TYPE_CHECKING:
    from lib_finetune.data.batches import Batch


class LoraMethod:
    """Implements `training.method.Method`."""

    def __init__(self, adapter: Adapter, text: TextEncoder, denoiser: Denoiser, prior: PriorPrediction | None = None) -> None:
        self._prior = prior
        self._adapter = adapter
        self._text = text
        self._denoiser = denoiser

    def parameters(self) -> Mapping[str, Mapping[str, nn.Parameter]]:
        """See `Method.parameters`."""
        return {"unet": self._adapter.parameters("unet"), "text encoder": self._adapter.parameters("text")}

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See `denoising.batch_loss`."""
        return batch_loss(self._denoiser, self._text, batch, generator, self._prior), {}

    def train(self, mode: bool) -> None:
        """See `Method.train`."""
        self._adapter.train(mode)

    def after_step(self) -> None:
        """LoRA has no invariant."""

    def constrain(self, values: Mapping[str, torch.Tensor]) -> None:
        """LoRA has no invariant."""

    def artifact(self) -> dict[str, torch.Tensor]:
        """See `Method.artifact`; names and parts of kohya's LoRA files."""
        return self._adapter.state()
