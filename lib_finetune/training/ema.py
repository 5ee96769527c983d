"""Exponential moving average of the trained weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn


class Ema:
    """θ̄ ← d·θ̄ + (1 − d)·θ with the warm-up d = min(decay, (1 + n) / (10 + n)), as TensorFlow's ExponentialMovingAverage does."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        """
        Args:
            decay: 0 keeps no average.
        """
        self._parameters = dict(parameters)
        self._decay = decay
        self.average = {name: value.detach().clone() for name, value in self._parameters.items()} if decay else {}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Follow the parameters after step ``step`` (1-based)."""
        if self.average:
            decay = min(self._decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(self.average.values()), [p.detach() for p in self._parameters.values()], 1 - decay)

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

    def _swap(self) -> None:
        """Exchange the storages of average and parameters, so that no third copy of a whole model is needed."""
        for name, parameter in self._parameters.items():
            average = self.average[name]
            parameter.data, average.data = average.data, parameter.data


@torch.no_grad()
def assign(parameters: Mapping[str, nn.Parameter], values: Mapping[str, torch.Tensor]) -> None:
    """Copy values into parameters of the same names."""
    for name, parameter in parameters.items():
        parameter.copy_(values[name])
