"""What to try next: the one change that answers a person's "too weak" or "overdone", or what the figures of a run suggest by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lib_finetune.config.settings import Settings
from lib_finetune.errors import InputError, Problem
from lib_finetune.evaluation.watch import COLOUR_LIMIT

TOO_WEAK, OVERDONE = "too weak", "overdone"
_FALLING = 0.03
"""A mean of the last fifth of the losses that is lower by this share than the fifth before: it was still learning."""
_MOST_STEPS = 10_000
_ENOUGH_POINTS = 3
"""Measurements on the validation images from which on their lowest says something."""


@dataclass(frozen=True)
class Change:
    """One change.

    Attributes:
        kind: "steps" (train so many more), "point" (take the file of this step), "weight" (use it with), "rate" (of learning, a factor).
        value: its number.
        text: in words, with the reason.
    """

    kind: str
    value: float
    text: str


def change(
    answer: str,
    settings: Settings,
    losses: Sequence[tuple[int, float]],
    points: Sequence[int],
    validation: Sequence[tuple[int, float]] = (),
) -> Change:
    """What to do about a result.

    Args:
        losses: (step, loss) of the training.
        points: steps of which there are files.
        validation: (step, loss) on the validation images.

    Raises:
        InputError: there is no such verdict.
    """
    if answer == TOO_WEAK:
        return _stronger(settings, losses, validation)
    if answer == OVERDONE:
        return _gentler(settings, losses, points, validation)
    raise InputError([Problem("verdict", f"{answer!r} is none of: {TOO_WEAK}, {OVERDONE}.")])


def next_step(
    losses: Sequence[tuple[int, float]],
    points: Sequence[int],
    validation: Sequence[tuple[int, float]],
    drift: Sequence[tuple[int, float]],
) -> Change | None:
    """What the figures of a run suggest without anybody's verdict; None where they say nothing.

    Args:
        losses, validation: see `change`.
        points: steps of which there are files.
        drift: (step, colour drift) of the previews.
    """
    if drift and drift[-1][1] > COLOUR_LIMIT:
        return _drifted(points, drift)
    last = losses[-1][0] if losses else 0
    enough = len(validation) >= _ENOUGH_POINTS
    best = min(validation, key=lambda point: point[1])[0] if enough else None
    if best is not None and best < validation[-1][0]:
        near = min((step for step in points if step < last), key=lambda step: abs(step - best), default=None)
        text = f"Compare it with the file of step {near}: on the validation images, step {best} did best."
        return Change("point", near, text) if near is not None else None
    if last >= _MOST_STEPS:
        return None
    if best is not None:
        return _more_steps(last, "on the validation images it was best at the end, so it was still learning")
    return _more_steps(last, "the loss was still falling at the end") if _fell_to_the_end([loss for _, loss in losses]) else None


def _drifted(points: Sequence[int], drift: Sequence[tuple[int, float]]) -> Change:
    end = f"colours have drifted by {drift[-1][1]:.0f} at the end"
    sane = [(step, value) for step, value in drift if value <= COLOUR_LIMIT and step in points]
    if not sane:
        return Change("rate", 0.5, f"Train again with half the learning rate: {end}.")
    step, value = sane[-1]
    return Change("point", step, f"Look at the file of step {step}: {end}, and there by {value:.0f}.")


def _more_steps(last: int, reason: str) -> Change:
    more = max(50, round(last / 2 / 50) * 50)
    return Change("steps", more, f"Train {more} more steps: {reason}.")


def _stronger(settings: Settings, losses: Sequence[tuple[int, float]], validation: Sequence[tuple[int, float]]) -> Change:
    steps = losses[-1][0] if losses else settings.training.steps or 0
    if validation and min(validation, key=lambda point: point[1])[0] == validation[-1][0] and steps < _MOST_STEPS:
        return _more_steps(steps, "on the validation images it was best at the end, so it was still learning")
    if _fell_to_the_end([loss for _, loss in losses]) and steps < _MOST_STEPS:
        return _more_steps(steps, "the loss was still falling at the end")
    if settings.method in ("lora", "pivotal_tuning") and settings.preview.weight < 1:
        return Change(
            "weight",
            1.0,
            f"Use it with weight 1 instead of {settings.preview.weight:g}: the curve had flattened, so first ask for more of it.",
        )
    return Change("rate", 2.0, "Train again with twice the learning rate: the curve had flattened, so more steps would add little.")


def _gentler(
    settings: Settings, losses: Sequence[tuple[int, float]], points: Sequence[int], validation: Sequence[tuple[int, float]]
) -> Change:
    last = losses[-1][0] if losses else settings.training.steps or 0
    earlier = sorted(point for point in points if point < last)
    best = min(validation, key=lambda point: point[1])[0] if validation else None
    if earlier and best is not None and best < last:
        point = min(earlier, key=lambda step: abs(step - best))
        return Change("point", point, f"Take the file of step {point}: on the validation images, step {best} did best.")
    if earlier:
        point = min(earlier, key=lambda step: abs(step - 0.6 * last))
        return Change("point", point, f"Take the file of step {point}, about two thirds of the training.")
    if settings.method in ("lora", "pivotal_tuning") and settings.preview.weight > 0.6:
        return Change("weight", 0.6, f"Use it with weight 0.6 instead of {settings.preview.weight:g}.")
    return Change("rate", 0.5, "Train again with half the learning rate, and save files during training to choose from.")


def _fell_to_the_end(losses: Sequence[float]) -> bool:
    fifth = len(losses) // 5
    if fifth < 10:  # single losses say nothing
        return False
    before, end = losses[-2 * fifth : -fifth], losses[-fifth:]
    return sum(end) < (1 - _FALLING) * sum(before)
