"""Counsel before training: the methods side by side for these pictures on this machine, the recommended one, and a trial of two steps."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

from lib_finetune.config.settings import Settings
from lib_finetune.errors import FinetuneError
from lib_finetune.estimates import method_costs, trial
from lib_finetune.estimates.method_choice import Case, advise
from lib_finetune.estimates.method_costs import ModelFacts
from lib_finetune.jobs.background_task import Errand
from lib_finetune.ports.host import Host

_GIB = 1 << 30


class Counsel:
    """Any thread. What depends on the checkpoint alone is read once for each."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._lock = threading.Lock()
        self._facts: tuple[tuple[str, str | None], ModelFacts] | None = None

    def cards(self, settings: Settings, pictures: int, views: int, wish: str = "") -> dict[str, Any]:
        """A card for each method, and which one is recommended and why.

        Args:
            pictures: how many there are.
            views: how many an epoch shows.
            wish: one of `advice.WISHES`.
        """
        try:
            cards = method_costs.cards(settings, views, self._model_facts(), method_costs.machine_of(self._host))
        except FinetuneError as error:  # no checkpoint, or one of another family
            return {"cards": [], "recommended": "", "reason": str(error), "question": ""}
        fits = {card.method: card.fits for card in cards}
        found = advise(Case(settings.data.kind, settings.data.drawn, pictures, wish, fits))
        return {
            "cards": [dataclasses.asdict(card) for card in cards],
            "recommended": found.method,
            "reason": found.reason,
            "question": found.question,
        }

    def _model_facts(self) -> ModelFacts:
        identity = self._host.checkpoint().identity
        with self._lock:
            if self._facts is None or self._facts[0] != identity:
                self._facts = (identity, method_costs.model_facts(self._host))
            return self._facts[1]

    def try_out(self, settings: Settings, busy: Callable[[], str | None], errand: Errand) -> dict[str, Any]:
        """The work of a forecast's errand: `forecast.probe` as plain values, and in words.

        Raises:
            FinetuneError: as `forecast.probe`.
        """
        found = trial.probe(settings, self._host, busy, errand.stop_asked)
        if found is None:
            return {}
        return {**dataclasses.asdict(found), "lines": _lines(found)}


def _lines(found: trial.Forecast) -> list[str]:
    lines = []
    if found.minutes is not None and found.seconds_per_step is not None:
        width, height = found.size
        lines.append(
            f"{found.steps} steps of {found.seconds_per_step:.2g} s (tried at {width}×{height} px): about {_spoken(found.minutes)}."
        )
        lines.append(f"Memory at most {found.peak_bytes / _GIB:.1f} of {found.total_bytes / _GIB:.1f} GiB.")
    lines.append(f"Disk: {found.disk_bytes / 1e9:.2f} GB, and {found.disk_free / 1e9:.0f} are free.")
    lines.append("It fits." if found.fits and not found.message else f"It fits. {found.message}" if found.fits else found.message)
    return lines


def _spoken(minutes: float) -> str:
    if minutes < 1.5:
        return f"{minutes * 60:.0f} seconds"
    return f"{minutes:.0f} minutes" if minutes < 90 else f"{minutes / 60:.1f} hours"
