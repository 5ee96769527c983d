"""The pace of a run, compared with the expected seconds of a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lib_finetune.estimates import speed_history

if TYPE_CHECKING:
    from lib_finetune.ports.events import StepReport
    from lib_finetune.runs.session import Session

FAR = 3.0
"""In multiples of the expected seconds."""
_REPORTS = 3
"""Reports in a row, so that an image that somebody makes meanwhile does not count as a slow training."""


class Pace:
    """Reports once that steps take far longer than expected: when the GPU is full, Windows' driver uses main memory instead of failing."""

    def __init__(self, step_s: float, say: Callable[[str], None]) -> None:
        """
        Args:
            step_s: seconds that a step is expected to take.
        """
        self._step_s = step_s
        self._say = say
        self._slow = 0
        self._is_said = False

    def steps(self, report: StepReport) -> None:
        """Hear of finished steps."""
        seconds = report.seconds / max(1, len(report.losses))
        self._slow = self._slow + 1 if seconds >= FAR * self._step_s else 0
        if self._slow < _REPORTS or self._is_said:
            return
        self._is_said = True
        self._say(
            f"A step takes {seconds:.1f} s, and {self._step_s:.1f} were expected. If nobody makes images meanwhile, the GPU's memory is "
            "probably full, and Windows uses main memory in its place: switch on training.gradient_checkpointing, lower data.resolution or "
            "training.batch, or close other programs that use the GPU."
        )


def pace_of(session: Session) -> Pace | None:
    """The pace against earlier measurements of such work on this device; None without any."""
    host, accumulation = session.host, session.assembly.trainer.plan.accumulation
    work = speed_history.work_of(session.settings, speed_history.device_name(host.device), session.assembly.model.count("unet"))
    speed = speed_history.estimate(host.paths.data, work)
    return Pace(speed.seconds * accumulation, session.sink.say) if speed and speed.origin == "measured" else None
