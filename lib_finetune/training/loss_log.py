"""The losses of a run: scalars stay on the device and are fetched every few steps; each fetch tells which states were good."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from lib_finetune.errors import DivergedError, StepsSkippedError
from lib_finetune.ports.events import StepReport
from lib_finetune.training.curve import Curve

EVERY = 10
MOST_SKIPPED = 50
"""Steps in a row that fp16's loss scaler may skip: its search for a scale takes about sixteen at the most."""
_Copies = tuple[int, list[torch.Tensor]]


class LossLog:
    """Losses and gradient norms of the steps since the last fetch, and the last good state of what trains.

    The loss of a step judges the weights before it: they are good if it is finite and the smoothed curve is not far above its
    beginning. A training whose loss is far above it continues, and the last good state stays kept.

    It has more than fifteen methods because losses, their judgement and the copies to go back to belong to the same steps: a part of it
    alone could keep a copy of weights that another part has judged to be bad.

    Attributes:
        good_step: of the copy that is kept; 0 without one.
        present: whether what trains is good as it is now; None until the loss after it is known.
        learned: whether any step has moved what trains: with fp16's loss scaler, steps are skipped while it looks for a scale.
        turned: called when the loss rises far above its beginning (True) and when it comes down again (False).
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        total: int,
        norm_counts: bool,
        report: Callable[[StepReport], None],
        now: Callable[[], float] = time.monotonic,
        keeps: bool = True,
        average: Iterable[torch.Tensor] = (),
    ) -> None:
        """
        Args:
            keeps: whether copies of what trains as it last was good are held; not of a whole model.
            parameters: what trains, by name.
            total: steps of the run.
            norm_counts: whether a gradient that is not finite is a fault (with fp16's loss scaler it is normal).
            report: receives the steps at each fetch.
            average: of the parameters, kept and brought back with them.
        """
        self._held: list[torch.Tensor] = [*parameters.values(), *average] if keeps else []
        self._total = total
        self._norm_counts = norm_counts
        self._report = report
        self._now = now
        self._curve = Curve(total)
        self._losses: list[torch.Tensor] = []
        self._norms: list[torch.Tensor] = []
        self._ahead: torch.Tensor | None = None
        self._rates: dict[str, float] = {}
        self._step = 0
        self._since = now()
        self._keeps = keeps
        self._proven = True
        self._good: list[torch.Tensor] | None = None
        self._fresh: _Copies | None = None
        self._waiting: list[Callable[[bool], None]] = []
        self._far = False
        self.good_step = 0
        self.present: bool | None = None
        self.learned = False
        self._skipped = 0
        self.turned: Callable[[bool], None] = lambda _: None

    @property
    def doubtful(self) -> bool:
        """Whether what trains is far above its beginning as it is now, as far as is known."""
        return self._far if self.present is None else not self.present

    @property
    def course(self) -> tuple[float, float]:
        """See `Curve.course`."""
        return self._curve.course

    def begin(self, step: int) -> None:
        """Start counting at a step (0, or where a run continues)."""
        self._step = step
        self._good, self._fresh, self.good_step, self.present = None, None, 0, None
        if self._proven:
            self._good, self.good_step, self.present = _in_main_memory(self._copies()), step if self._keeps else 0, True
        else:
            self._fresh = step, self._copies()
        self._since = self._now()

    def note(self, loss: torch.Tensor, norm: torch.Tensor, rates: Mapping[str, float]) -> None:
        """A step is done. Does not synchronise."""
        self._losses.append(loss.detach())
        self._norms.append(norm)
        self._rates = dict(rates)
        self._step += 1
        self.present = None
        if len(self._losses) >= EVERY or self._waiting:
            self.fetch()

    def look_ahead(self, loss: torch.Tensor) -> None:
        """After the last step: a loss that stands for that of the next one, which will not be. Does not synchronise."""
        self._ahead = loss.detach()

    def when_judged(self, listener: Callable[[bool], None]) -> None:
        """Call ``listener`` when the loss of the next step is known, with whether what is trained now is good. Call after a `fetch`.

        It is called inside a turn, and not at all where the run ends before.
        """
        self._waiting.append(listener)

    def pause(self) -> None:
        """The clock stops: what comes is not training."""
        self.fetch()

    def resume(self) -> None:
        """The clock runs again."""
        self._since = self._now()

    def fetch(self) -> None:
        """Read the scalars off the device, judge the states before them, report them, and copy what trains as it is now.

        Raises:
            DivergedError: a loss (or gradient) was not finite; what trains is in its last good state again, where one is kept.
            StepsSkippedError: the loss scaler skips one step after the other.
        """
        losses, norms, ahead = self._read()
        first = self._step - len(losses)
        for place, (loss, norm) in enumerate(zip(losses, norms, strict=True)):
            if not math.isfinite(loss):
                self._diverge(first + place + 1)
            self._judge(self._curve.add(loss))
            if self._norm_counts and not math.isfinite(norm):
                self._diverge(first + place + 1)
            self._count_skipped(math.isfinite(norm))
        if losses:
            self._fresh = self._step, self._copies()
            elapsed, self._since = self._now() - self._since, self._now()
            self._report(StepReport(self._step, self._total, tuple(losses), self._rates, elapsed, _last_finite(norms)))
            if self._skipped >= MOST_SKIPPED:
                raise StepsSkippedError(self._skipped, self._step)
        if ahead is not None:
            if not math.isfinite(ahead):
                self._diverge(self._step + 1, ahead=True)
            self.present = self._judge(self._curve.near(ahead))

    def go_back(self) -> None:
        """Bring the last good state of what trains back, where one is kept."""
        if self._good is not None:
            with torch.no_grad():
                for own, value in zip(self._held, self._good, strict=True):
                    own.copy_(value)

    def state(self) -> dict[str, Any]:
        """What `load_state` needs to judge on exactly."""
        return {**self._curve.state(), "skipped": self._skipped, "learned": self.learned}

    def load_state(self, state: Mapping[str, Any], proven: bool) -> None:
        """Continue from a state that `state` gave, before `begin`.

        Args:
            proven: whether what was loaded is known to be good.
        """
        self._curve.load_state(state)
        self._skipped, self.learned = int(state.get("skipped", 0)), bool(state.get("learned", True))
        self._proven = proven

    def _read(self) -> tuple[list[float], list[float], float | None]:
        """Everything that is noted, in one transfer."""
        if not self._losses and self._ahead is None:
            return [], [], None
        count, ahead = len(self._losses), [] if self._ahead is None else [self._ahead]
        device = (self._losses or ahead)[0].device
        values = torch.stack([value.to(device).float() for value in (*self._losses, *self._norms, *ahead)]).tolist()
        self._losses, self._norms, self._ahead = [], [], None
        return values[:count], values[count : 2 * count], values[-1] if ahead else None

    def _count_skipped(self, moved: bool) -> None:
        """A step of the scaler whose gradient is not finite leaves everything as it was."""
        self._skipped = 0 if moved else self._skipped + 1
        self.learned = self.learned or moved

    def _judge(self, good: bool) -> bool:
        """A loss was finite, and near its beginning or not: so was the state before it."""
        if good and self._fresh is not None:
            self.good_step = self._fresh[0] if self._keeps else 0
            self._good = _in_main_memory(self._fresh[1])
        self._fresh = None
        if self._far == good:
            self._far = not good
            self.turned(self._far)
        self._tell(good)
        return good

    def _tell(self, good: bool) -> None:
        waiting, self._waiting = self._waiting, []
        for listener in waiting:
            listener(good)

    def _diverge(self, step: int, *, ahead: bool = False) -> None:
        self._tell(good=False)
        self.go_back()
        raise DivergedError(step, max(self._rates.values(), default=0.0), ahead=ahead)

    def _copies(self) -> list[torch.Tensor]:
        return [value.detach().clone() for value in self._held]


def _last_finite(norms: list[float]) -> dict[str, float]:
    """The norm of the last gradient that moved anything; those of skipped steps are infinite."""
    finite = [norm for norm in norms if math.isfinite(norm)]
    return {"gradient norm": finite[-1]} if finite else {}


def _in_main_memory(copies: list[torch.Tensor]) -> list[torch.Tensor]:
    """The device need hold one copy only, of what is not judged yet."""
    return [value.to("cpu") for value in copies]
