"""Pivotal tuning: a word and patches around it (Roich et al., arXiv 2106.05744; for LoRA as in cloneofsimo's lora_pti)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

from lib_finetune.training.methods.lora import LoraMethod
from lib_finetune.training.methods.textual_inversion import TextualInversionMethod

if TYPE_CHECKING:
    from lib_finetune.data.batches import Batch


class PivotalTuningMethod:
    """Implements `training.method.Method`. The learning rates of the groups decide which part learns when."""

    def __init__(self, patches: LoraMethod, word: TextualInversionMethod) -> None:
        """
        Args:
            patches, word: share one text encoder and one denoiser, so that the loss of one is the loss of both.
        """
        self._patches = patches
        self._word = word

    def parameters(self) -> Mapping[str, Mapping[str, nn.Parameter]]:
        """See `Method.parameters`."""
        return {**self._patches.parameters(), **self._word.parameters()}

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See `LoraMethod.loss`."""
        self._word.expect(batch)
        return self._patches.loss(batch, generator)

    def train(self, mode: bool) -> None:
        """See `Method.train`."""
        self._patches.train(mode)

    def after_step(self) -> None:
        """Both invariants."""
        self._patches.after_step()
        self._word.after_step()

    def constrain(self, values: Mapping[str, torch.Tensor]) -> None:
        """Both invariants."""
        self._patches.constrain(values)
        self._word.constrain(values)

    def artifact(self) -> dict[str, torch.Tensor]:
        """Both artifacts; their names are disjoint."""
        return {**self._patches.artifact(), **self._word.artifact()}
