"""The learning rates of a run: which group learns in which steps, and how fast. Training and all that is said of rates read this one object."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from lib_finetune.assembly.method_traits import teaches_word
from lib_finetune.config.optimizer_demands import demands_of
from lib_finetune.config.settings import Settings
from lib_finetune.training.functional import rates

_GENTLE_STEPS = 10
"""Steps in which the rates of further steps rise at least from where the steps before ended, so that nothing jumps."""


@dataclass(frozen=True)
class Stretch:
    """Steps with a schedule of their own: all of a run, or the further ones of a run that continues with more.

    Attributes:
        first: step (0-based) that it begins with.
        ended: group → rate of the step before.
        learned: group → rate of the last step before in which it moved.
        way: of `config.settings.FURTHER_WAYS`.
    """

    first: int = 0
    ended: Mapping[str, float] = field(default_factory=dict)
    learned: Mapping[str, float] = field(default_factory=dict)
    way: str = "new"

    def to_json(self) -> str:
        """For a saved state."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str | None) -> Stretch:
        """The inverse of `to_json`; states of a run in one stretch hold none."""
        return cls(**json.loads(text)) if text else WHOLE


WHOLE = Stretch()
"""All steps of a run that never got more."""


Share = tuple[str, float]
"""(group, share of its rate)."""


@dataclass(frozen=True)
class _Part:
    """Group of parameters: its highest rate; the steps in which it learns, the last excluded; those of its schedule."""

    peak: float
    learns: tuple[int, int]
    schedule: tuple[int, int]


class RatePlan:
    """Rates by step and group, of resolved settings."""

    def __init__(self, settings: Settings, stretch: Stretch = WHOLE, apart: Mapping[str, Share] | None = None) -> None:
        """
        Args:
            apart: groups beside those of the method, which have a share of another one's rate (`scale_groups`).
        """
        self._settings = settings
        self.stretch = stretch
        self.apart = dict(apart or {})
        self.method, self.steps = settings.method, settings.training.steps or 0
        self._parts = {group: self._part(group, peak) for group, peak in group_rates(settings).items()}
        for group, (lead, share) in self.apart.items():
            self._parts[group] = dataclasses.replace(self._parts[lead], peak=self._parts[lead].peak * share)

    def at(self, step: int) -> dict[str, float]:
        """Learning rate of step ``step`` (0-based) by group; 0 where it is not trained."""
        return {group: self._rate(group, part, step) for group, part in self._parts.items()}

    def highest(self, group: str) -> float:
        """The highest rate that a group has in any step of this stretch; 0 where it never moves."""
        part = self._parts[group]
        (begins, ends), (start, end) = part.learns, part.schedule
        if begins >= ends:
            return 0.0
        rising, waves = self._rising(end - start), self._settings.optimizer.restarts
        tops = [start + rising + math.ceil(wave * (end - start - rising) / waves) for wave in range(waves)]
        return max(self._rate(group, part, min(max(begins, top), ends - 1)) for top in (begins, *tops))

    def highest_rates(self) -> dict[str, float]:
        """`highest` of every group."""
        return {group: self.highest(group) for group in self._parts}

    def steps_of(self, group: str) -> int:
        """In how many steps of this stretch a group moves."""
        begins, ends = self._parts[group].learns
        return max(0, ends - begins)

    def groups(self) -> list[str]:
        """Groups of the method that are to be trained."""
        return [group for group in self._parts if group not in self.apart and _is_trained(self._settings, group)]

    def further(self, done: int, way: str) -> Stretch:
        """The stretch of the steps after ``done`` steps of this plan."""
        ended = self.at(done - 1)
        learned = {group: self._last_rate(group, done) for group in self._parts}
        return Stretch(done, ended, learned, way)

    def _last_rate(self, group: str, done: int) -> float:
        part = self._parts[group]
        last = min(done, part.learns[1]) - 1
        return self._rate(group, part, last) if last >= part.learns[0] else self.stretch.learned.get(group, 0.0)

    def _part(self, group: str, peak: float) -> _Part:
        first, last = self.stretch.first, self.steps
        begins, ends = _learning(self._settings, group, last - first)
        learns = first + begins, first + ends
        # The text encoder of DreamBooth leaves the model's schedule where it stops. Who has one rate for all, one schedule.
        shared = self._settings.method != "pivotal_tuning" or demands_of(self._settings.optimizer.name).one_rate
        return _Part(peak, learns, (first, last) if shared else learns)

    def _rate(self, group: str, part: _Part, step: int) -> float:
        if not part.learns[0] <= step < part.learns[1]:
            return 0.0
        chosen, (start, end) = self._settings.optimizer, part.schedule
        at, total = step - start, end - start
        if self.stretch.first == 0:
            return part.peak * rates.factor(chosen.schedule, at, total, chosen.warmup, chosen.restarts, chosen.power)
        if self.stretch.way == "end" and (rate := self._before(self.stretch.learned, group)) > 0:
            return rate
        ended = min(1.0, self._before(self.stretch.ended, group) / part.peak) if part.peak else 0.0
        return part.peak * rates.continued(chosen.schedule, at, total, self._rising(total), ended, chosen.restarts, chosen.power)

    def _before(self, rates_before: Mapping[str, float], group: str) -> float:
        if demands_of(self._settings.optimizer.name).one_rate:
            return max(rates_before.values(), default=0.0)
        return rates_before.get(group, 0.0)

    def _rising(self, total: int) -> int:
        rising = int(self._settings.optimizer.warmup * total)
        return rising if self.stretch.first == 0 else max(rising, min(_GENTLE_STEPS, (total + 1) // 2))


def group_rates(settings: Settings) -> dict[str, float]:
    """The rate that is set for each group of parameters, of resolved settings; 0 where it is not trained."""
    if settings.method == "textual_inversion":
        return {"embedding": settings.embedding.rate or 0.0}
    text = settings.optimizer.text_encoder_rate if _is_trained(settings, "text encoder") else 0.0
    word = {"embedding": settings.embedding.rate or 0.0} if teaches_word(settings) else {}
    return {"unet": settings.optimizer.unet_rate or 0.0, "text encoder": text or 0.0, **word}


def _is_trained(settings: Settings, group: str) -> bool:
    """Whether the settings ask for a group to be trained."""
    if group == "embedding":
        return settings.method == "textual_inversion" or settings.embedding.until > 0
    if group == "text encoder":
        return settings.tuning.text_encoder_until > 0 if settings.method == "dreambooth" else settings.network.text_encoder
    return True


def _learning(settings: Settings, group: str, steps: int) -> tuple[int, int]:
    """The steps in which a group learns, the last excluded, counted from the first of a stretch of so many."""
    if settings.method == "dreambooth" and group == "text encoder":
        return 0, math.ceil(settings.tuning.text_encoder_until * steps)
    if settings.method != "pivotal_tuning":
        return 0, steps
    if group == "embedding":
        share = settings.embedding.until * steps
        return 0, max(round(share), int(share >= 0.5))  # half of the only step is that step; round() takes the even 0
    return round(settings.network.begin * steps), steps
