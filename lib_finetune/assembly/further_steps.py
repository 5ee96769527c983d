"""Further steps of a run that has begun: the automatic values that it began with, and the schedule that its further steps have."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib_finetune.assembly import automatic_settings, provenance, scale_groups
from lib_finetune.assembly.automatic_settings import SPOKEN
from lib_finetune.assembly.rate_plan import WHOLE, RatePlan, Share, Stretch
from lib_finetune.config import codec
from lib_finetune.config.fields import replaced, value_at
from lib_finetune.config.settings import Settings
from lib_finetune.errors import InputError
from lib_finetune.training import state


def as_begun(settings: Settings, state_file: Path | None) -> Settings:
    """The settings with the automatic values that the run began with, where it resumes: later versions may derive others.

    Args:
        state_file: the saved state that it resumes from, if any.
    """
    stored = _outline(state_file)
    free = provenance.free_settings(settings)
    for path, value in provenance.stored_settings(stored["run"]["settings"]).items() if stored else ():
        leaf = codec.all_leaves().get(path)
        automatic = leaf is not None and leaf.optional and value_at(settings, path) is None
        if automatic and value is not None and (path == "training.steps" or not path.startswith(free)):
            settings = replaced(settings, path, value)
    return settings


def stretch_of(settings: Settings, state_file: Path | None, further_after: int | None = None) -> Stretch:
    """The steps that have a schedule of their own now: those of the whole run, or those that it was given later.

    Args:
        settings: resolved.
        state_file: as of `as_begun`.
        further_after: the step after which further steps were asked for; None where none were.
    """
    return begun_stretch(settings, state_file, further_after) if state_file else WHOLE


def apart_of(state_file: Path) -> dict[str, Share]:
    """The groups with a rate of their own that a state's optimizer has."""
    stored = _outline(state_file)
    return scale_groups.from_json(stored["run"].get("apart")) if stored else {}


def begun_stretch(settings: Settings, path: Path, further_after: int | None = None) -> Stretch:
    """The same for a state that is there; further steps from the middle of a run may lead to the very step at which it would have ended."""
    stored = _outline(path)
    if stored is None:
        return WHOLE
    stretch, done = Stretch.from_json(stored["run"].get("stretch")), int(stored["trainer"]["step"])
    steps = provenance.stored_settings(stored["run"]["settings"]).get("training.steps")
    if done == 0 or not isinstance(steps, int) or (steps == settings.training.steps and done != further_after):
        return stretch
    if done == stretch.first:  # nothing was trained in it yet
        return dataclasses.replace(stretch, way=settings.optimizer.further)
    apart = scale_groups.from_json(stored["run"].get("apart"))
    before = RatePlan(replaced(_with_rates(settings, stored), "training.steps", steps), stretch, apart)
    return before.further(done, settings.optimizer.further)


def _with_rates(settings: Settings, stored: Mapping[str, Any]) -> Settings:
    """The settings with the learning rates that the state was trained with, where they are still automatic."""
    values = provenance.stored_settings(stored["run"]["settings"])
    for path in automatic_settings.RATES.values():
        if value_at(settings, path) is None:
            settings = replaced(settings, path, values.get(path))
    if settings.optimizer.name == "auto":
        settings = replaced(settings, "optimizer.name", values.get("optimizer.name", "auto"))
    return settings


def _outline(path: Path | None) -> Mapping[str, Any] | None:
    """A state's outline; None where there is none, or one that tells nothing (`saved_states.resume` says what is wrong with it)."""
    try:
        outline = state.outline(path) if path else None
        return outline if outline and outline["run"]["settings"] and "step" in outline["trainer"] else None
    except (InputError, KeyError, TypeError, ValueError):
        return None


def stretch_notes(plan: RatePlan) -> list[str]:
    """What is to be said of further steps: the rate where the steps before ended, and the one that they rise to; of the plan itself."""
    first, last = plan.stretch.first, plan.steps
    if not first:
        return []
    lines = [
        f"The {last - first} further steps, {first + 1} to {last}, have a schedule of their own (optimizer.further: {plan.stretch.way})."
    ]
    for group in plan.groups():
        ended, begins, highest = plan.stretch.ended.get(group, 0.0), plan.at(first).get(group, 0.0), plan.highest(group)
        lines.append(
            f"The rate of the {SPOKEN.get(group, group)} was {ended:.3g} in step {first}, is {begins:.3g} in step {first + 1}, and at most {highest:.3g}."
        )
    return lines
