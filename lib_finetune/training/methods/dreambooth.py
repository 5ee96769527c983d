"""DreamBooth: trains the weights of UNet and text encoder, in copies of the host's weights (Ruiz et al., arXiv 2208.12242)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

from lib_finetune.text.prompts import TextEncoder
from lib_finetune.training.methods.denoising import Denoiser, PriorPrediction, batch_loss

if TYPE_CHECKING:
    from lib_finetune.data.batches import Batch


class DreamBoothMethod:
    """Implements `training.method.Method`."""

    def __init__(
        self,
        weights: Mapping[str, Mapping[str, nn.Parameter]],
        text: TextEncoder,
        denoiser: Denoiser,
        prior: PriorPrediction | None = None,
    ) -> None:
        """
        Args:
            weights: "unet" and perhaps "text" → LDM name → parameter, from `BorrowedModel.own`.
        """
        self._weights = weights
        self._text = text
        self._denoiser = denoiser
        self._prior = prior

    def parameters(self) -> Mapping[str, Mapping[str, nn.Parameter]]:
        """See `Method.parameters`."""
        return {"unet": self._weights["unet"], "text encoder": self._weights.get("text", {})}

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See `denoising.batch_loss`."""
        return batch_loss(self._denoiser, self._text, batch, generator, self._prior), {}

    def train(self, mode: bool) -> None:
        """DreamBooth has no dropout."""

    def after_step(self) -> None:
        """DreamBooth has no invariant."""

    def constrain(self, values: Mapping[str, torch.Tensor]) -> None:
        """DreamBooth has no invariant."""

    def artifact(self) -> dict[str, torch.Tensor]:
        """The trained tensors, by LDM name."""
        return {name: value.detach() for part in self._weights.values() for name, value in part.items()}
