"""The methods side by side for these images on this machine, the recommended one, and a trial of two steps."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lib_finetune.assembly.automatic_settings import resolved
from lib_finetune.config.codec import all_leaves
from lib_finetune.config.fields import value_at
from lib_finetune.config.settings import Settings
from lib_finetune.data.plan import Epoch
from lib_finetune.errors import FinetuneError, InputError, Problem
from lib_finetune.estimates import method_costs, trial
from lib_finetune.estimates.method_choice import WISHES, Case, advise
from lib_finetune.estimates.method_costs import ModelFacts
from lib_finetune.jobs.background_task import BackgroundTask
from lib_finetune.jobs.states import ACTIVE

if TYPE_CHECKING:
    from lib_finetune.app.datasets import Datasets
    from lib_finetune.jobs.queue import Jobs

_GIB = 1 << 30
_USUAL_IMAGES = 10
"""Counted where no folder is named yet."""
_OF_IMAGES = ("training.steps", "preview.every")
"""Automatic settings that follow the number of images."""


class MethodAdvisor:
    """Any thread. What depends on the checkpoint alone is read once for each."""

    def __init__(self, jobs: Jobs, datasets: Datasets) -> None:
        self._jobs = jobs
        self._host = jobs.host
        self._datasets = datasets
        self._lock = threading.Lock()
        self._facts: tuple[tuple[str, str | None], ModelFacts] | None = None

    def cards(self, settings: Settings, wish: str = "") -> dict[str, Any]:
        """A card for each method, and which one is recommended and why; without a folder, for as many images as are usual.

        Args:
            wish: one of `method_choice.WISHES`.

        Raises:
            InputError: the folder cannot be read, or the wish is none.
        """
        if wish not in WISHES:
            raise InputError([Problem("wish", f"{wish!r} is none of: {', '.join(map(repr, WISHES))}.")])
        if self._jobs.lost:
            return {"cards": [], "recommended": "", "reason": self._jobs.lost, "question": ""}
        pictures, epoch = 0, Epoch.of(_USUAL_IMAGES, settings.training.batch)
        if settings.data.images.strip():
            dataset = self._datasets.view(settings)
            pictures = len(dataset["pictures"])
            epoch = _epoch(dataset)
        try:
            cards = method_costs.cards(settings, epoch, self._model_facts(), method_costs.machine_of(self._host))
        except FinetuneError as error:  # no checkpoint, or one of another family
            return {"cards": [], "recommended": "", "reason": str(error), "question": ""}
        fits = {card.method: card.fits for card in cards}
        advice = advise(Case(settings.data.kind, settings.data.drawn, pictures, wish, fits))
        return {
            "cards": [dataclasses.asdict(card) for card in cards],
            "recommended": advice.method,
            "reason": advice.reason,
            "question": advice.question,
        }

    def automatic(self, settings: Settings, dataset: Mapping[str, Any] | None) -> dict[str, str]:
        """What each setting that is left automatic will be, by dotted path; what depends on the images only where there are some.

        Args:
            dataset: `Datasets.view`; None for no folder.

        Raises:
            FinetuneError: no checkpoint is loaded.
        """
        left = [path for path, leaf in all_leaves().items() if leaf.optional and value_at(settings, path) is None]
        epoch = _epoch(dataset) if dataset else Epoch.of(_USUAL_IMAGES, settings.training.batch)
        chosen, _ = resolved(settings, epoch, self._host.text_tools().clip_skip)
        values = {path: value_at(chosen, path) for path in left if dataset or path not in _OF_IMAGES}
        return {path: f"{value:.4g}" if isinstance(value, float) else str(value) for path, value in values.items() if value is not None}

    def _model_facts(self) -> ModelFacts:
        identity = self._host.checkpoint().identity
        with self._lock:
            if self._facts is None or self._facts[0] != identity:
                self._facts = (identity, method_costs.model_facts(self._host))
            return self._facts[1]

    def forecast(self, settings: Settings) -> BackgroundTask:
        """Try two steps of a training, when no other runs.

        Raises:
            InputError: a job runs.
        """
        if reason := self._busy():
            raise InputError(reason)
        return self._jobs.tasks.add("forecast", lambda task: self._try_out(settings, task))

    def _try_out(self, settings: Settings, task: BackgroundTask) -> dict[str, Any]:
        forecast = trial.probe(settings, self._host, self._busy, task.stop_asked)
        return {} if forecast is None else {**dataclasses.asdict(forecast), "lines": _lines(forecast)}

    def _busy(self) -> str | None:
        running = [job for job in self._jobs.known.all() if job.state in ACTIVE]
        if not running:
            return None
        return f"{running[0].settings.name} is being trained; a forecast would take its memory. Ask again when it has ended."


def _epoch(dataset: Mapping[str, Any]) -> Epoch:
    trained = len(dataset["pictures"]) - sum(picture["held_out"] for picture in dataset["pictures"])
    return Epoch(trained, dataset["views"], dataset["batches"])


def _lines(forecast: trial.Forecast) -> list[str]:
    lines = [*forecast.subjects, *(f"Warning: {warning}" for warning in forecast.warnings)]
    if forecast.minutes is not None and forecast.seconds_per_step is not None:
        width, height = forecast.size
        lines.append(
            f"{forecast.steps} steps of {forecast.seconds_per_step:.2g} s (tried at {width}×{height} px): about {_spoken(forecast.minutes)}."
        )
        lines.append(f"Memory at most {forecast.peak_bytes / _GIB:.1f} of {forecast.total_bytes / _GIB:.1f} GiB.")
    lines.append(f"Disk: {forecast.disk_bytes / 1e9:.2f} GB, and {forecast.disk_free / 1e9:.0f} are free.")
    lines.append(
        "It fits." if forecast.fits and not forecast.message else f"It fits. {forecast.message}" if forecast.fits else forecast.message
    )
    return lines


def _spoken(minutes: float) -> str:
    if minutes < 1.5:
        return f"{minutes * 60:.0f} seconds"
    return f"{minutes:.0f} minutes" if minutes < 90 else f"{minutes / 60:.1f} hours"
