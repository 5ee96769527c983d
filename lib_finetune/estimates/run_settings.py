"""The settings that a run goes by: their form, every automatic value, the learning rates by step, and what is said of all that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lib_finetune.assembly import automatic_settings, builder, dataset, further_steps, initial_weights, scale_groups
from lib_finetune.assembly.caption_templates import template_notes
from lib_finetune.assembly.rate_plan import RatePlan
from lib_finetune.assembly.run_plans import preview_notes
from lib_finetune.assembly.subjects import classes_of, subject_notes, subjects_of
from lib_finetune.errors import InputError
from lib_finetune.estimates import memory_plan, run_form
from lib_finetune.preflight import conflicts, teaching

if TYPE_CHECKING:
    from lib_finetune.assembly.dataset import Dataset
    from lib_finetune.config.settings import Settings
    from lib_finetune.ports.checkpoint import CheckpointInfo
    from lib_finetune.ports.host import Host


@dataclass(frozen=True)
class RunSettings:
    """
    Attributes:
        chosen: with what the free memory decides; this is what the run's folder keeps.
        settings: with every automatic value filled in.
        rates: learning rates by step.
        lines: what a person should know of them and of the images.
    """

    chosen: Settings
    settings: Settings
    rates: RatePlan
    lines: tuple[str, ...]


def run_settings(
    settings: Settings,
    images: Dataset,
    info: CheckpointInfo,
    host: Host,
    run_folder: Path,
    stored: Settings | None = None,
    state_file: Path | None = None,
    further_after: int | None = None,
) -> RunSettings:
    """The settings of a run that is about to begin, or to resume.

    Args:
        stored: those of the run that is resumed; None for a new one.
        state_file: the saved state that it resumes from.
        further_after: the step after which further steps were asked for; None where none were.

    Raises:
        InputError: a part that is to be trained would stand still; memory or disk do not suffice.
    """
    tools = host.text_tools()
    chosen, notes = run_form.in_chosen_form(settings, stored, info, host)
    classes = len(classes_of(chosen, subjects_of(chosen, images)))
    run_form.check_disk(chosen, builder.data_plan(settings, images).epoch, info, host, run_folder, classes)
    if stored is None:
        notes = [*notes, *initial_weights.notes(chosen)]
    begun, plan = further_steps.as_begun(chosen, state_file), builder.data_plan(chosen, images)
    scales = builder.patch_scales(begun, host, info)
    most = {part: counts[0] for part, counts in scales.items()} if scales else None
    definite, automatic = automatic_settings.resolved(begun, plan.epoch, tools.clip_skip, most)
    optimizer = definite.optimizer.name
    apart = further_steps.apart_of(state_file) if state_file else scale_groups.groups_apart(begun, optimizer, scales)
    rates = RatePlan(definite, further_steps.stretch_of(definite, state_file, further_after), apart)
    if problems := conflicts.idle_problems(rates):
        raise InputError(problems)
    lines = (
        *_of_images(definite, images),
        automatic_settings.arithmetic(definite, plan, rates.stretch.first),
        *(f"Warning: {warning}" for warning in teaching.warnings(definite, images)),
        *notes,
        automatic_settings.rate_note(rates),
        *scale_groups.scale_notes(definite, rates, scales),
        *further_steps.stretch_notes(rates),
        *automatic,
        *template_notes(definite, dataset.written_templates(definite)),
        *subject_notes(definite, subjects_of(definite, images)),
        *preview_notes(definite),
        *memory_plan.identifier_notes(definite, tools.tokenizer),
    )
    return RunSettings(chosen, definite, rates, lines)


def _of_images(settings: Settings, images: Dataset) -> Iterator[str]:
    used = images.classes if automatic_settings.prior_of(settings) == "pictures" else None
    for report in (images.subject, used):
        yield from report.lines() if report else ()
    yield from automatic_settings.unused_class_images(settings)
    yield from automatic_settings.weightless_class(settings)
    if images.held:
        yield f"Validation images, not trained on: {', '.join(picture.name for picture in images.held)}."
