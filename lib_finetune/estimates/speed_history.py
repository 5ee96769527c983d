"""Speeds: how long steps took on this machine, kept from run to run, and a stated guess where nothing is known."""

from __future__ import annotations

import dataclasses
import json
import logging
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lib_finetune.assembly.automatic_settings import prior_of
from lib_finetune.files import write_atomically

if TYPE_CHECKING:
    from lib_finetune.config.settings import Settings
    from lib_finetune.ports.events import StepReport

_log = logging.getLogger(__name__)
FILE = "speeds.json"
_TIMES_KEPT = 5
_PIXELS = 512 * 512
_CHECKPOINTING = 1.25
_PREDICTION = 5 / 3
"""A step with the base's own prediction against one without prior: measured 1.6 to 1.75 (the class's half of the batch is computed too)."""
_SD15_UNET = 859_520_964
_CARDS = ((6.5, 1.1), (8.5, 0.8), (12.5, 0.5), (16.5, 0.35), (25.0, 0.18), (float("inf"), 0.1))
"""GiB of a card's memory up to which → seconds that a step of a LoRA, one image of 512 px in 16 bit, takes on cards of that class.
A guess from what people write of SD1.5 (1 to 10 steps a second); nothing of it was measured by us."""
_METHODS = {"lora": 1.0, "dreambooth": 1.2, "textual_inversion": 0.9, "pivotal_tuning": 1.05}


@dataclass(frozen=True)
class SpeedConditions:
    """What a speed depends on.

    Attributes:
        device: its name.
        weights: of the model's UNet.
        method: that trains.
        resolution: px.
        images: of a batch, class images counted.
        checkpointing: of gradients.
        predicts: the prior's prediction is made at every step.
    """

    device: str
    weights: int
    method: str
    resolution: int
    pictures: int
    checkpointing: bool
    predicts: bool

    @property
    def load(self) -> float:
        """How much there is to compute, against one image of 512 px."""
        size = self.pictures * self.resolution**2 / _PIXELS
        return size * (_CHECKPOINTING if self.checkpointing else 1.0) * (_PREDICTION if self.predicts else 1.0)

    @property
    def _key(self) -> str:
        return "|".join(str(value) for value in dataclasses.astuple(self))


@dataclass(frozen=True)
class Speed:
    """Seconds of one batch, forward and backward, and where they come from: "measured", "scaled" from other work, or "guessed"."""

    seconds: float
    origin: str


def work_of(settings: Settings, device: str, weights: int) -> SpeedConditions:
    """The work of settings; see `SpeedConditions`."""
    prior, training = prior_of(settings), settings.training
    pictures = training.batch * (2 if prior == "pictures" else 1)
    checkpointing = training.gradient_checkpointing
    return SpeedConditions(device, weights, settings.method, settings.data.resolution, pictures, checkpointing, prior == "prediction")


def device_name(device: torch.device) -> str:
    """What a device is called here and in the file."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def remember(data: Path, work: SpeedConditions, seconds: float) -> None:
    """Store how long a batch took; of the last five the median counts. A file that is damaged is begun anew.

    Raises:
        SaveError: as `files.write_atomically`.
    """
    known = _read(data)
    known[work._key] = {"work": dataclasses.asdict(work), "seconds": [*_times(known.get(work._key)), seconds][-_TIMES_KEPT:]}
    write_atomically(data / FILE, json.dumps(known, indent=1).encode())


def estimate(data: Path, work: SpeedConditions, card_bytes: int = 0) -> Speed | None:
    """How long a batch of this work will take; None where nothing is known.

    Args:
        card_bytes: memory of the CUDA card in all; 0 on the CPU, for which nothing is guessed.
    """
    known = _read(data)
    if times := _times(known.get(work._key)):
        return Speed(statistics.median(times), "measured")
    alike = [entry for entry in map(_entry, known.values()) if entry and _comparable(entry[0], work)]
    if alike:
        nearest, seconds = min(alike, key=lambda entry: (entry[0].method != work.method, abs(entry[0].load - work.load)))
        factor = work.load / nearest.load * _METHODS[work.method] / _METHODS[nearest.method]
        return Speed(seconds * factor, "scaled")
    if not card_bytes:
        return None
    usual = next(seconds for most, seconds in _CARDS if card_bytes <= most * 2**30)
    return Speed(usual * work.load * _METHODS[work.method] * work.weights / _SD15_UNET, "guessed")


def _comparable(known: SpeedConditions, work: SpeedConditions) -> bool:
    return (known.device, known.weights) == (work.device, work.weights) and known.method in _METHODS


def _read(data: Path) -> dict[str, object]:
    path = data / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError) as error:
        _log.warning("%s is begun anew: %s", path, error)
        return {}
    return content if isinstance(content, dict) else {}


def _times(entry: object) -> list[float]:
    times = entry.get("seconds", []) if isinstance(entry, dict) else []
    return [float(value) for value in times if isinstance(value, int | float) and value > 0]


def _entry(entry: object) -> tuple[SpeedConditions, float] | None:
    times = _times(entry)
    try:
        return (SpeedConditions(**entry["work"]), statistics.median(times)) if times and isinstance(entry, dict) else None
    except (KeyError, TypeError):  # of another version
        return None


class Clock:
    """Listens to the reports of a run and passes them on; tells the usual seconds of a batch."""

    def __init__(self, report: Callable[[StepReport], None], accumulation: int) -> None:
        self._report = report
        self._accumulation = accumulation
        self._times: list[float] = []

    def steps(self, report: StepReport) -> None:
        """Hear of finished steps."""
        self._times.append(report.seconds / max(1, len(report.losses)) / self._accumulation)
        self._report(report)

    @property
    def seconds(self) -> float | None:
        """The median over all reports but the first, which holds the warm-up; None before there were two."""
        return statistics.median(self._times[1:]) if len(self._times) > 1 else None


def clock_for(settings: Settings, report: Callable[[StepReport], None]) -> Clock:
    """A clock of a run with these settings."""
    return Clock(report, settings.training.accumulation)
