"""Groups of patches that count otherwise than the rest of their part, and so have a learning rate of their own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lib_finetune.assembly.automatic_settings import RATES, SPOKEN
from lib_finetune.config.fields import value_at
from lib_finetune.config.optimizer_demands import demands_of
from lib_finetune.training.optim import OPTIMIZERS, automatic_rates

if TYPE_CHECKING:
    from lib_finetune.assembly.rate_plan import RatePlan, Share
    from lib_finetune.config.settings import Settings

_GROUPS = {"unet": "unet", "text": "text encoder"}
Scales = Mapping[str, Sequence[float]]
"""Part of the model → how much its patches count, the most first."""


def group_of_scale(group: str, scale: float) -> str:
    """The name of the group of those patches of a group that count ``scale``."""
    return f"{group} scale {scale:g}"


def groups_apart(settings: Settings, optimizer: str, scales: Scales | None) -> dict[str, Share]:
    """Group → (the group of the patches that count most, share of its rate), so that all patches move as far in a step.

    A rate that the person set is one for all, and so is that of an optimizer which takes one.

    Args:
        settings: as the person set them, with rates that may be automatic.
        optimizer: its definite name.
    """
    if demands_of(optimizer).one_rate:
        return {}
    kind, apart = OPTIMIZERS[optimizer], {}
    for part, (most, *others) in (scales or {}).items():
        group = _GROUPS[part]
        for scale in others if value_at(settings, RATES[group]) is None else ():
            share = automatic_rates(kind, 1, scale)[0] / automatic_rates(kind, 1, most)[0]
            if share != 1:
                apart[group_of_scale(group, scale)] = (group, share)
    return apart


def scale_notes(settings: Settings, rates: RatePlan, scales: Scales | None) -> list[str]:
    """What is to be said of patches that do not count alike, or not as alpha says.

    Args:
        settings: resolved.
    """
    network, notes = settings.network, []
    if scales and network.alpha != network.rank and all(tuple(counts) == (1.0,) for counts in scales.values()):
        notes.append(f"Alpha ({network.alpha:g}) changes nothing here: both factors of every patch are whole, so each has scale 1.")
    for part, (most, *others) in (scales or {}).items():
        group = _GROUPS[part]
        spoken, same = SPOKEN.get(group, group), []
        for scale in others:
            if (own := group_of_scale(group, scale)) in rates.apart:
                highest = rates.highest(own), rates.highest(group)
                notes.append(
                    f"Patches of the {spoken} that count {scale:.3g} learn at up to {highest[0]:.3g}, those that count {most:.3g} at up to {highest[1]:.3g}."
                )
            else:
                same.append(scale)
        if same:
            notes.append(f"Patches of the {spoken} count {most:.3g} to {min(same):.3g} and have one rate: those that count less move less.")
    return notes


def to_json(apart: Mapping[str, Share]) -> str:
    """For a saved state."""
    return json.dumps(apart)


def from_json(text: str | None) -> dict[str, Share]:
    """The inverse of `to_json`; states of runs with one rate for each part hold none."""
    return {group: (lead, share) for group, (lead, share) in json.loads(text).items()} if text else {}
