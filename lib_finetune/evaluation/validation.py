"""Validation: the loss on validation images of the training, at noise and timesteps that never change, and the best state by it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

DRAWS = 8
"""Noises and timesteps an image: few are enough, for two states are compared at the same ones."""


@dataclass(frozen=True)
class Best:
    """The state with the lowest loss so far.

    Attributes:
        step: after which it was.
        values: of the parameters, by name, on the CPU.
    """

    step: int
    loss: float
    values: Mapping[str, torch.Tensor]


class Validation:
    """Measures, and remembers the best state."""

    def __init__(
        self,
        pictures: int,
        loss: Callable[[int, int], torch.Tensor],
        parameters: Mapping[str, nn.Parameter],
        every: int,
        prepare: Callable[[int], None] = lambda _: None,
    ) -> None:
        """
        Args:
            images: how many are held out.
            loss: (image, draw) → its loss, on the device; called inside a turn, without gradients.
            parameters: what trains, by name.
            every: steps between measurements.
            prepare: called with each image before its losses, outside of their turns.
        """
        self.pictures = pictures
        self._loss = loss
        self._parameters = dict(parameters)
        self._every = every
        self._prepare = prepare
        self.best: Best | None = None
        self.curve: list[tuple[int, float]] = []
        """Each measurement: after which step, and the loss."""

    @property
    def step(self) -> int:
        """After which was measured last; 0 before the first time."""
        return self.curve[-1][0] if self.curve else 0

    @property
    def draws(self) -> int:
        """Losses that are measured each time."""
        return self.pictures * DRAWS

    def due(self, step: int, total: int) -> bool:
        """Whether to measure after this step: now and then, and at the end."""
        return step % self._every == 0 or step == total

    @torch.no_grad()
    def measure(self, step: int, turn: Callable[[], AbstractContextManager[Any]]) -> float:
        """The mean loss now, after ``step``; the state is remembered where it is the best so far.

        Args:
            turn: opened for every draw, so that nobody waits long for the host.
        """
        losses = []
        for picture in range(self.pictures):
            self._prepare(picture)
            for draw in range(DRAWS):
                with turn():
                    losses.append(self._loss(picture, draw).float())
        loss = float(torch.stack(losses).mean())
        self.curve.append((step, loss))
        if math.isfinite(loss) and (self.best is None or loss < self.best.loss):
            self.best = Best(step, loss, self._copy())
        return loss

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The parameters hold the best state inside; there is one."""
        assert self.best is not None
        own = self._copy()  # on the CPU: a whole model may be trained, and its device be full
        self._assign(self.best.values)
        try:
            yield
        finally:
            self._assign(own)

    def state(self) -> dict[str, Any]:
        """What `load_state` needs to resume exactly."""
        best = self.best
        return {"curve": self.curve, "best": {"step": best.step, "loss": best.loss, "values": dict(best.values)} if best else None}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.curve = list(state["curve"])
        self.best = Best(**state["best"]) if state["best"] else None

    def _copy(self) -> dict[str, torch.Tensor]:
        return {name: value.detach().to("cpu", copy=True) for name, value in self._parameters.items()}

    @torch.no_grad()
    def _assign(self, values: Mapping[str, torch.Tensor]) -> None:
        for name, value in self._parameters.items():
            value.copy_(values[name])
