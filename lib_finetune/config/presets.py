"""Presets: what suits a kind of subject and a method better than the defaults, with the reason for each value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lib_finetune.config.codec import all_leaves
from lib_finetune.config.fields import replaced, value_at
from lib_finetune.config.settings import KINDS, METHODS, Settings


@dataclass(frozen=True)
class Choice:
    """A value of a preset.

    Attributes:
        path: dotted name of the setting.
        value: that differs from its default.
        reason: in a sentence.
        source: where it comes from.
    """

    path: str
    value: Any
    reason: str
    source: str


_SUBJECTS = ("person", "animal", "thing")
_PATCHING = ("lora", "pivotal_tuning")
_TEACHING = ("textual_inversion", "pivotal_tuning")
_FOCAL = Choice("data.crop", "focal", "Head or thing rarely lie in the middle; what stands out is kept.", "the WebUI's focal crop")
_MIRROR = Choice(
    "data.flip", True, "It is the same from the other side, and each image counts twice.", "peers: off for faces and writing only"
)
_SMALL_RANK = "A thing has fewer sides than a face; a small network takes over less of what is around it."
_LARGE_RANK = "A style touches everything in an image and needs more room."
_CHOICES = (
    (_SUBJECTS, METHODS, _FOCAL),
    (("animal", "style"), METHODS, _MIRROR),
    (("thing",), _PATCHING, Choice("network.rank", 8, _SMALL_RANK, "LyCORIS example configurations: 8 / 4")),
    (("thing",), _PATCHING, Choice("network.alpha", 4.0, "Half of the rank, as by default.", "LyCORIS example configurations: 8 / 4")),
    (("style",), _PATCHING, Choice("network.rank", 32, _LARGE_RANK, "lora-scripts' defaults: 32 / 16")),
    (("style",), _PATCHING, Choice("network.alpha", 16.0, "Half of the rank, as by default.", "lora-scripts' defaults: 32 / 16")),
    (("thing",), _TEACHING, Choice("embedding.vectors", 2, "A thing needs few, and they leave room in the prompt.", "peers: 1 to 3")),
    (("style",), _TEACHING, Choice("embedding.vectors", 6, "A style is more than one word's worth.", "peers: 2 to 6")),
    (
        ("style",),
        ("dreambooth", *_PATCHING),
        Choice("objective.prior", "off", "A style is to reach every class, so that none is held back.", "peers: no prior for styles"),
    ),
)
"""Kinds, methods, and the value that is theirs. What is not here is as by default, which is made for a face."""


def preset(kind: str, method: str) -> tuple[Choice, ...]:
    """The values of a kind of subject and a method; none for an unknown kind.

    Raises:
        ValueError: there is no such kind or method.
    """
    if kind not in KINDS or method not in METHODS:
        raise ValueError(f"there is no preset for {kind!r} by {method!r}")
    return tuple(choice for kinds, methods, choice in _CHOICES if kind in kinds and method in methods)


def applied(settings: Settings, kind: str, method: str) -> Settings:
    """The settings for a kind of subject and a method.

    What the preset before had chosen gives way; what the person set to something else stays.
    """
    before = {choice.path: choice.value for choice in preset(settings.data.kind, settings.method)}
    after = {choice.path: choice.value for choice in preset(kind, method)}
    for path in {choice.path for _, _, choice in _CHOICES}:
        default = all_leaves()[path].default
        if value_at(settings, path) in (default, before.get(path, default)):
            settings = replaced(settings, path, after.get(path, default))
    return replaced(replaced(settings, "data.kind", kind), "method", method)
