"""A training method: this Protocol is all that the loop knows of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import nn


class Method(Protocol):
    """Attached to a bound view."""

    def parameters(self) -> Mapping[str, Mapping[str, nn.Parameter]]:
        """Group ("unet", "text encoder") → name in the file → trained parameter, float32."""

    def loss(self, batch: Any, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss of a batch and scalars that are only shown.

        Args:
            batch: a `data.batches.Batch`.
            generator: on the CPU, seeded for this step; all randomness of the loss comes from it.
        """

    def train(self, mode: bool) -> None:
        """Dropout on or off."""

    def after_step(self) -> None:
        """Restore the method's invariant after the optimizer moved the parameters."""

    def constrain(self, values: Mapping[str, torch.Tensor]) -> None:
        """Restore the invariant, without gradients, in tensors that stand for the parameters of these names, such as their average."""

    def artifact(self) -> dict[str, torch.Tensor]:
        """The tensors to save, by name in the file."""
