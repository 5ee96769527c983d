"""Captions of drawn pictures: what a scene is called, more or less completely, in several manners."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .world import Scene

FILLERS = ("sks", "nice", "my", "zwx", "little", "old", "ohwx", "new", "cat", "dreamy")
"""Words that mean nothing in the drawn world: the painter learns to pass over what it does not know, as SD1.5 does."""

PLACES = {"left": "on the left", "right": "on the right", "middle": "in the middle"}
EMPTY_SHARE = 0.1


@dataclass(frozen=True)
class Caption:
    """A caption and what it promises.

    Attributes:
        text: as typed into a prompt.
        says: the attributes of the scene that the text names; for all others any value is right.
    """

    text: str
    says: frozenset[str]


def full_caption(scene: Scene) -> str:
    """The usual prompt for a scene: "a photo of a red star on a striped blue background"."""
    pattern = "" if scene.pattern == "plain" else f"{scene.pattern} "
    return f"a photo of {article(scene.colour)} {scene.shape} on {article(pattern + scene.ground)} background"


def article(words: str) -> str:
    """Put "a" or "an" before words."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def random_caption(scene: Scene, rng: np.random.Generator) -> Caption:
    """Call a scene something: a tenth empty, the others sentences or tag lists that name some or all attributes."""
    if rng.random() < EMPTY_SHARE:
        return Caption("", frozenset())
    says = {name for name, share in (("shape", 0.95), ("colour", 0.88), ("ground", 0.8)) if rng.random() < share}
    if "ground" in says and rng.random() < (0.3 if scene.pattern == "plain" else 0.9):
        says.add("pattern")
    if rng.random() < 0.15:
        says.add("place")
    thing = _thing(scene, says, rng)
    ground = _ground(scene, says)
    place = PLACES[scene.place] if "place" in says else ""
    if rng.random() < 0.25:
        return Caption(", ".join(part for part in (thing, place, ground) if part), frozenset(says))
    opening = str(rng.choice(["", "a photo of ", "a picture of ", "a drawing of "], p=(0.3, 0.5, 0.1, 0.1)))
    text = opening + article(thing) + (f" {place}" if place else "")
    return Caption(text + (f" on {article(ground)}" if ground else ""), frozenset(says))


def _thing(scene: Scene, says: set[str], rng: np.random.Generator) -> str:
    shape = scene.shape if "shape" in says else "thing"
    if rng.random() < 0.1:
        shape = f"{rng.choice(FILLERS)} {shape}"
    return f"{scene.colour} {shape}" if "colour" in says else shape


def _ground(scene: Scene, says: set[str]) -> str:
    if "ground" not in says:
        return ""
    return f"{scene.pattern} {scene.ground} background" if "pattern" in says else f"{scene.ground} background"
