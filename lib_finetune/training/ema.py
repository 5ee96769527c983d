"""Exponential moving average of the trained weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from lib_finetune.training.optim.flat import Flat


class Ema:
    """θ̄ ← d·θ̄ + (1 − d)·θ with the warm-up d = min(decay, (1 + n) / (10 + n)), as TensorFlow's ExponentialMovingAverage does."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float, flat: Flat | None = None) -> None:
        """
        Args:
            decay: 0 keeps no average.
            flat: what holds the parameters, where they lie in one tensor.
        """
        self._parameters = dict(parameters)
        self._decay = decay
        self._flat = flat
        followed = flat.wholes if flat else self._parameters
        self.tensors = {name: value.detach().clone() for name, value in followed.items()} if decay else {}
        """What is averaged: each parameter, or what they lie in."""
        self.average = dict(zip(self._parameters, flat.named(self.tensors), strict=True)) if flat and decay else self.tensors

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Follow the parameters after step ``step`` (1-based)."""
        if self.average:
            decay = min(self._decay, (1 + step) / (10 + step))
            followed = (self._flat.wholes if self._flat else self._parameters).values()
            torch._foreach_lerp_(list(self.tensors.values()), [value.detach() for value in followed], 1 - decay)

    def close(self) -> None:
        """Release the average; training is over."""
        self.average.clear()
        self.tensors.clear()

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The parameters hold the average inside; without a decay they stay as they are."""
        if not self.average:
            yield
            return
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        """Each gets the other's storage, so that no third copy of a whole model is needed; what lies in one tensor stays there."""
        if self._flat:
            for name, whole in self._flat.wholes.items():
                average, held = self.tensors[name], whole.detach().clone()
                whole.copy_(average)
                average.copy_(held)
            return
        for name, parameter in self._parameters.items():
            average = self.average[name]
            parameter.data, average.data = average.data, parameter.data


@torch.no_grad()
def assign(parameters: Mapping[str, nn.Parameter], values: Mapping[str, torch.Tensor]) -> None:
    """Copy values into parameters of the same names."""
    for name, parameter in parameters.items():
        parameter.copy_(values[name])
