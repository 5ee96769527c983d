"""Reports of a run beside its stages: speed, memory, a loss far above its beginning, texts that are cut, and model swaps."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lib_finetune.assembly import automatic_settings
from lib_finetune.data import plan_report
from lib_finetune.errors import SaveError
from lib_finetune.estimates import speed_history

if TYPE_CHECKING:
    from lib_finetune.ports.events import ProgressSink, StepReport
    from lib_finetune.ports.host import HostWeights
    from lib_finetune.runs.pace import Pace
    from lib_finetune.runs.session import Session
    from lib_finetune.training.model_swap import ModelSwap

_log = logging.getLogger(__name__)


class Steps:
    """Reports steps and the memory that they take.

    Attributes:
        pace: compares with the expected seconds; None if nothing is expected.
    """

    def __init__(self, host: HostWeights, sink: ProgressSink) -> None:
        self._host = host
        self._sink = sink
        self.pace: Pace | None = None

    def hear(self, report: StepReport) -> None:
        """Report finished steps."""
        if self.pace:
            self.pace.steps(report)
        use = self._host.memory()
        self._sink.steps(dataclasses.replace(report, scalars={**report.scalars, "memory": use.now, "memory peak": use.peak}))


def of_plan(session: Session) -> Iterator[str]:
    """Report what a person should know about the plan of the run and its texts."""
    assembly = session.assembly
    yield from plan_report.lines(assembly.plan, session.total * assembly.trainer.plan.accumulation)
    yield from _long_texts(session)


def _long_texts(session: Session) -> Iterator[str]:
    """Sentences on every text that the run reads."""
    settings, plan, text = session.settings, session.assembly.plan, session.assembly.text
    shown = [picture for picture in (*plan.pictures, *session.held) if not plan.captioning.uses_templates(picture)]
    own = [caption for picture in shown for caption in plan.captioning.every(picture)]
    prompts = [session.preview.filled(each.prompt, session.preview.trigger) for each in session.preview.prompts]
    yield from automatic_settings.long_captions(settings, own, text)
    yield from automatic_settings.long_captions(settings, plan_report.used_templates(plan), text, "template")
    yield from automatic_settings.long_captions(settings, plan.class_captions, text, "class caption")
    yield from automatic_settings.long_prompts(settings, prompts if session.preview.enabled else [], text)


def say_distance(sink: ProgressSink, far: bool) -> None:
    """Report that the smoothed loss is far above its beginning, or has come back."""
    sink.say(
        "The loss is far above its beginning: the training continues, and the last good state is kept until it comes down again."
        if far
        else "The loss has come down again."
    )


def say_swap(sink: ProgressSink, swap: ModelSwap) -> None:
    """Report the first model swap."""
    if swap.count == 1:
        sink.say(f"Swapped the WebUI's model and the trained one: {swap.seconds:.1f} s there and back.")


def say_swaps(session: Session) -> None:
    """Report the number and the time of all model swaps."""
    swap = session.assembly.swap
    if swap and swap.count:
        session.sink.say(f"The two models were swapped {swap.count} times, {swap.total:.1f} s in total.")


def remember_speed(session: Session, seconds: float | None) -> None:
    """Store the speed for the estimates of later runs; without it they are less exact, so a failure is only logged."""
    if seconds is None:
        return
    weights = session.assembly.model.count("unet")
    work = speed_history.work_of(session.settings, speed_history.device_name(session.host.device), weights)
    try:
        speed_history.remember(session.host.paths.data, work, seconds)
    except SaveError as error:
        _log.warning("The speed was not stored: %s", error)
