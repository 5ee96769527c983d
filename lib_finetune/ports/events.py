"""What a run reports while it executes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class StepReport:
    """Scalars of finished steps, fetched from the device together.

    Attributes:
        step: steps done so far.
        total: steps of the whole run.
        losses: one loss per step since the last report.
        rates: learning rate by group, now.
        seconds: time spent in training since the last report.
        scalars: further scalars that are only shown.
    """

    step: int
    total: int
    losses: tuple[float, ...]
    rates: Mapping[str, float]
    seconds: float
    scalars: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PreviewRow:
    """The images of one preview, in the order of the run's prompts and seeds, so that rows of different steps compare.

    Attributes:
        step: steps that the file held; 0 is the base, without any file.
        kinds: of each image: "subject", "class" (the prompt without the trigger word) or "other" (nothing to do with it).
        prompts, seeds: of each image.
        files: of each image, relative to the run's folder, with "/".
    """

    step: int
    kinds: tuple[str, ...]
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    files: tuple[str, ...]


class ProgressSink(Protocol):
    """Receives the events of a run. A sink that raises is logged and does not end the training."""

    def stage(self, name: str, done: int = 0, total: int = 0) -> None:
        """A stage began or moved on: "pictures", "class images", "bind", "cache", "train", "measure", "paused",
        "save", "verify", "preview", "give back"; any thread."""

    def steps(self, report: StepReport) -> None:
        """Some steps are done."""

    def say(self, message: str) -> None:
        """A line for the log, in plain words."""

    def figure(self, name: str, step: int, value: float) -> None:
        """A figure was measured after a step: "validation" (the loss on the validation images), or one of the watch on side effects."""

    def previewed(self, row: PreviewRow) -> None:
        """A row of previews is there, made now or by this run before it was stopped."""

    def points(self, points: Sequence[tuple[int, Sequence[Path]]]) -> None:
        """The files of the way that exist now, by step: all of them, each time that one comes or goes."""
