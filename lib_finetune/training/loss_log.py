"""The ledger of a run: scalars stay on the device and are fetched every few steps; each fetch decides whether all is finite."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import torch
from torch import nn

from lib_finetune.errors import DivergedError
from lib_finetune.ports.events import StepReport
from lib_finetune.training.ema import assign

EVERY = 10


class Ledger:
    """Losses and gradient norms of the steps since the last fetch, and the last good state of the parameters."""

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        total: int,
        norm_counts: bool,
        report: Callable[[StepReport], None],
        now: Callable[[], float] = time.monotonic,
        keeps: bool = True,
    ) -> None:
        """
        Args:
            keeps: whether a copy of the parameters as they last were good is held; not of a whole model.
            parameters: what trains, by name.
            total: steps of the run.
            norm_counts: whether a gradient that is not finite is a fault (with fp16's loss scaler it is normal).
            report: hears of the steps at each fetch.
        """
        self._parameters = dict(parameters)
        self._total = total
        self._norm_counts = norm_counts
        self._report = report
        self._now = now
        self._losses: list[torch.Tensor] = []
        self._norms: list[torch.Tensor] = []
        self._rates: dict[str, float] = {}
        self._step = 0
        self._since = now()
        self._keeps = keeps
        self._good = self._copy()
        self.good_step = 0

    def begin(self, step: int) -> None:
        """Start counting at a step (0, or where a run continues)."""
        self._step = step
        self.good_step = step if self._keeps else 0
        self._good = self._copy()
        self._since = self._now()

    def note(self, loss: torch.Tensor, norm: torch.Tensor, rates: Mapping[str, float]) -> None:
        """A step is done. Does not synchronise."""
        self._losses.append(loss.detach())
        self._norms.append(norm)
        self._rates = dict(rates)
        self._step += 1
        if len(self._losses) >= EVERY:
            self.fetch()

    def pause(self) -> None:
        """The clock stops: what comes is not training."""
        self.fetch()

    def resume(self) -> None:
        """The clock runs again."""
        self._since = self._now()

    def fetch(self) -> None:
        """Read the scalars off the device, check them, report them, remember the parameters as good.

        Raises:
            DivergedError: a loss (or gradient) was not finite; the parameters are those of the last good fetch again, where they are kept.
        """
        if not self._losses:
            return
        values = torch.stack([torch.stack(self._losses).float(), torch.stack(self._norms).float()]).tolist()
        losses, norms = values
        first = self._step - len(losses)
        self._losses, self._norms = [], []
        for place, (loss, norm) in enumerate(zip(losses, norms, strict=True)):
            if not math.isfinite(loss) or (self._norm_counts and not math.isfinite(norm)):
                self._go_back()
                raise DivergedError(first + place + 1, max(self._rates.values(), default=0.0))
        self._good, self.good_step = self._copy(), self._step if self._keeps else 0
        elapsed, self._since = self._now() - self._since, self._now()
        self._report(StepReport(self._step, self._total, tuple(losses), self._rates, elapsed, {"gradient norm": norms[-1]}))

    def _copy(self) -> dict[str, torch.Tensor]:
        return {name: value.detach().clone() for name, value in self._parameters.items()} if self._keeps else {}

    def _go_back(self) -> None:
        if self._keeps:
            assign(self._parameters, self._good)
