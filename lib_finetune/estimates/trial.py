"""A forecast by trying: a few real steps at the largest size, of which nothing stays but the speed."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lib_finetune.assembly import automatic_settings, builder, dataset
from lib_finetune.assembly.run_plans import class_images_plan
from lib_finetune.assembly.subjects import classes_of, subject_lines, subjects_of
from lib_finetune.config.fields import replaced
from lib_finetune.errors import InputError, OutOfMemoryError, SaveError, is_out_of_memory
from lib_finetune.estimates import method_costs, speed_history
from lib_finetune.preflight import teaching
from lib_finetune.preflight.problems import checked_dataset

if TYPE_CHECKING:
    from lib_finetune.config.settings import Settings
    from lib_finetune.data.plan import Epoch
    from lib_finetune.errors import CheckpointChangedError
    from lib_finetune.ports.checkpoint import CheckpointInfo
    from lib_finetune.ports.events import StepReport
    from lib_finetune.ports.host import Host

_log = logging.getLogger(__name__)
_WARM_UP = 1
_TIMED = 2
_EVERYTHING = {"optimizer.schedule": "constant", "optimizer.warmup": 0.0, "network.begin": 0.0}
"""So that in each of the few steps all that will ever train does."""


class _Stopped(Exception):  # noqa: N818  not a fault: the person's wish
    """A stop was asked for while images were looked at."""


@dataclass(frozen=True)
class Forecast:
    """What a run will take.

    Attributes:
        seconds_per_step: of an optimizer step at the largest size; None where not even one fitted.
        steps: of the run.
        minutes: of all steps; images are encoded once before, and files written after.
        size: (width, height) in px of the largest size.
        peak_bytes: of the device; on the CPU of the whole process since it began.
        total_bytes, free_bytes: of the device before; ``free_bytes`` beside the host's model, 0 where the system does not tell.
        disk_bytes, disk_free: what files and saved states take, and what is free.
        fits: in memory and on the disk.
        levers: settings and values that would make it fit.
        message: "" or why it does not fit, or what the run will choose by itself.
        restoration: the host before and after, in a line; "" where nothing was tried.
        warnings: what a person should know of before the training.
        subjects: where there are several, a sentence on each; and which class images are made.
    """

    seconds_per_step: float | None
    steps: int
    minutes: float | None
    size: tuple[int, int]
    peak_bytes: int
    total_bytes: int
    free_bytes: int
    disk_bytes: int
    disk_free: int
    fits: bool
    levers: tuple[method_costs.Change, ...]
    message: str
    restoration: str
    warnings: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()


def probe(
    settings: Settings, host: Host, busy: Callable[[], str | None], stop_asked: Callable[[], bool] = lambda: False
) -> Forecast | None:
    """Try a run: check it as a run does, train one step to warm up and two for the clock, and give everything back.

    Args:
        busy: tells why it cannot be tried now (a job runs); None or "" when it can.
        stop_asked: looked at before every step and every image.

    Returns:
        None when it was stopped.

    Raises:
        InputError: something runs, or what `preflight.problems` finds.
        CheckpointChangedError: another checkpoint was loaded meanwhile.
        FinetuneError: as a run.
    """
    if reason := busy():
        raise InputError(reason)

    def looked_at(_done: int, _total: int) -> None:
        if stop_asked():
            raise _Stopped

    try:
        images = checked_dataset(settings, host, on_picture=looked_at)
    except _Stopped:
        return None
    facts, machine = method_costs.model_facts(host), method_costs.machine_of(host)
    fit = method_costs.fit(settings, facts, machine)
    tools = host.text_tools()
    epoch = builder.data_plan(fit.settings, images).epoch
    chosen = automatic_settings.resolved(fit.settings, epoch, tools.clip_skip)[0]
    largest, size = _largest(chosen, images)
    if fit.fits or settings.method != "dreambooth":  # which a run refuses to begin
        tried = _tried(_all_training(chosen), largest, host, stop_asked)
    else:
        tried = _Tried(None, 0, "")
    if tried.stopped:
        return None
    if tried.seconds is not None:
        _remember(speed_history.work_of(chosen, machine.name, facts.counts["unet"]), tried.seconds / chosen.training.accumulation, host)
    classes = len(classes_of(chosen, subjects_of(chosen, images)))
    forecast = _forecast(settings, chosen, fit, tried, size, facts, machine, epoch, classes)
    warnings, subjects = tuple(teaching.warnings(chosen, images)), _subjects(chosen, images)
    return dataclasses.replace(forecast, warnings=warnings, subjects=subjects)


def _subjects(settings: Settings, images: dataset.Dataset) -> tuple[str, ...]:
    """A sentence on each of several subjects, and on the class images that a run makes for each class."""
    subjects = subjects_of(settings, images)
    lines, plan = subject_lines(subjects), None if images.classes else class_images_plan(settings, subjects)
    if plan is not None:
        for prompt in plan.prompts.values():
            lines.append(f"Class images of {prompt!r}: {plan.count} are made before the training where they are missing.")
    return tuple(lines)


@dataclass(frozen=True)
class _Tried:
    """Seconds a step or None, the peak of memory, the host's restoration, and whether it was stopped."""

    seconds: float | None
    peak: int
    restoration: str
    stopped: bool = False


def _tried(settings: Settings, images: dataset.Dataset, host: Host, stop_asked: Callable[[], bool]) -> _Tried:
    seconds, info = None, host.checkpoint()
    stopped = False
    host.remember()
    try:
        with tempfile.TemporaryDirectory(prefix="finetune-") as folder:
            seconds = _timed(settings, images, host, info, Path(folder), stop_asked)
        stopped = seconds is None
    except (RuntimeError, MemoryError, OutOfMemoryError) as error:
        if not isinstance(error, OutOfMemoryError) and not is_out_of_memory(error):
            raise
        _log.info("The forecast ran out of memory: %s", error)
    finally:
        try:
            peak = host.memory().peak
        finally:  # also when the GPU is lost
            restoration = host.restoration()
    return _Tried(seconds, peak, restoration.line, stopped)


def _timed(
    settings: Settings, images: dataset.Dataset, host: Host, info: CheckpointInfo, folder: Path, stop_asked: Callable[[], bool]
) -> float | None:
    """Seconds a step; None when it was stopped before the last."""
    assembly = builder.bind(settings, images, host, info, folder, _give_up, _unheard)
    turns = assembly.trainer.turns
    try:
        steps = _WARM_UP + _TIMED
        turns.use(("vae",))
        for variant in assembly.batches.missing(0, steps * settings.training.accumulation):
            if stop_asked():
                return None
            with turns.step():
                assembly.batches.encode_variant(variant)
        turns.use(assembly.needs, assembly.swap)
        times: dict[int, float] = {}

        def stamp(step: int) -> None:
            """Without the time in which the two models were swapped, which a run does seldom."""
            times[step] = time.monotonic() - (assembly.swap.total if assembly.swap else 0.0)

        assembly.trainer.train(stop_asked, lambda step: step in (_WARM_UP, steps), stamp, judged=lambda: False)
        return (times[steps] - times[_WARM_UP]) / _TIMED if steps in times else None
    finally:
        turns.close()
        assembly.close()


def _largest(settings: Settings, images: dataset.Dataset) -> tuple[dataset.Dataset, tuple[int, int]]:
    """Full batches of the image with the largest size; it stands in for class images that are not made yet."""
    plan = builder.data_plan(settings, images)
    picture, size = max(zip(plan.pictures, plan.sizes, strict=True), key=lambda entry: entry[1][0] * entry[1][1])
    subject = dataclasses.replace(images.subject, pictures=(dataclasses.replace(picture, repeats=settings.training.batch),))
    made_later = automatic_settings.prior_of(settings) == "pictures" and images.classes is None
    return dataclasses.replace(images, subject=subject, classes=subject if made_later else images.classes, held=()), size


def _all_training(settings: Settings) -> Settings:
    values: dict[str, Any] = {**_EVERYTHING, "training.steps": _WARM_UP + _TIMED, "data.disk_cache": False}
    if settings.tuning.text_encoder_until:
        values["tuning.text_encoder_until"] = 1.0
    if settings.embedding.until:
        values["embedding.until"] = 1.0
    for path, value in values.items():
        settings = replaced(settings, path, value)
    return settings


def _remember(work: speed_history.SpeedConditions, seconds: float, host: Host) -> None:
    try:
        speed_history.remember(host.paths.data, work, seconds)
    except SaveError as error:
        _log.warning("The speed was not stored: %s", error)


def _forecast(
    settings: Settings,
    chosen: Settings,
    fit: method_costs.Fit,
    tried: _Tried,
    size: tuple[int, int],
    facts: method_costs.ModelFacts,
    machine: method_costs.Machine,
    epoch: Epoch,
    classes: int,
) -> Forecast:
    needed, free = method_costs.disk(chosen, facts, machine.paths, epoch, classes)
    changes = method_costs.levers(settings, facts, machine) if tried.seconds is None else ()
    message = fit.note
    if tried.seconds is None:
        message = method_costs.unfit(fit.need, machine.free, changes)
    elif needed > free:
        message = f"Does not fit on the disk: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} are free. Free some space."
    steps = chosen.training.steps or 0
    return Forecast(
        seconds_per_step=tried.seconds,
        steps=steps,
        minutes=tried.seconds * steps / 60 if tried.seconds is not None else None,
        size=size,
        peak_bytes=tried.peak,
        total_bytes=machine.total,
        free_bytes=machine.free,
        disk_bytes=needed,
        disk_free=free,
        fits=tried.seconds is not None and needed <= free,
        levers=changes,
        message=message,
        restoration=tried.restoration,
    )


def _give_up(changed: CheckpointChangedError) -> NoReturn:
    raise changed


def _unheard(_: StepReport) -> None:
    """The steps of a trial are not shown."""
