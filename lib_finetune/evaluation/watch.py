"""The watch on side effects: figures of a preview against the base's images, and the words when one of them turns."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lib_finetune.evaluation import colour, likeness

SUBJECT, CLASS, OTHER = "subject", "class", "other"
COLOUR, CLASS_CHANGE, OTHER_CHANGE, COPYING = "colour drift", "class change", "other change", "copying"
UNRELATED = ("a photo of a house by the sea", "a bowl of fruit on a table")
"""What a subject has nothing to do with: a wide view outdoors and a still life indoors, so that both light and objects are looked at."""

Curves = Mapping[str, Sequence[tuple[int, float]]]


@dataclass(frozen=True)
class Limit:
    """When a figure has turned.

    Attributes:
        value: above it, the figure is said; growing at two previews in a row above it, it is said again.
        says: what has happened and what to do, in which ``{value}`` and ``{limit}`` stand for figures.
    """

    value: float
    says: str


_BACK = "Keep an earlier snapshot, or train again with a lower learning rate or fewer steps"
LIMITS = {
    # A difference of 2.3 can just be seen (Mahy et al., 1994), one of 10 is another colour at a glance; this is the mean over images
    # of other things, in which chance cancels out. On nano (docs/measurements.md) a sane DreamBooth stays below 10, one at 30 times its rate is at 38 to 59.
    COLOUR: Limit(
        15.0,
        "Colours of images that have nothing to do with the subject have shifted by {value:.0f} (more than {limit:.0f}). " + _BACK + ".",
    ),
    # 1 − correlation: at 0 the composition is the base's, at 1 nothing is left of it. A class may move towards its new member: on nano
    # it is at 0.4 to 0.6 after sane trainings, by DreamBooth and LoRA.
    CLASS_CHANGE: Limit(
        0.7,
        "The class is being forgotten: its images without the trigger word have lost {value:.0%} of what they were. "
        + _BACK
        + ", or with class images (data.class_count 200).",
    ),
    # What is unrelated should not move at all: below 0.1 on nano with a sane DreamBooth, 0.7 at 30 times its rate.
    OTHER_CHANGE: Limit(
        0.5,
        "Images that have nothing to do with the subject have lost {value:.0%} of what they were: the model forgets more than the class. "
        + _BACK
        + ".",
    ),
    # Half of the way from the likeness that the person's own images have among each other to identity.
    COPYING: Limit(
        0.5,
        "The previews copy training images ({value:.0%} of the way from a likeness that is usual among them to the same image). "
        + _BACK
        + ", or add images that differ more.",
    ),
}


def figures(
    base: Mapping[str, list[Image.Image]],
    now: Mapping[str, list[Image.Image]],
    training: Sequence[Image.Image] = (),
    held: Sequence[Image.Image] = (),
) -> dict[str, float]:
    """The figures of a preview; one without the images that it needs is left out.

    Args:
        base, now: `SUBJECT`, `CLASS`, `OTHER` → images of the same prompts and seeds in the same order, all of one size.
        training, held: the person's images.
    """
    by_name: dict[str, float] = {}
    if now.get(OTHER):
        before, after = (np.stack([np.asarray(picture) for picture in side[OTHER]]) for side in (base, now))
        by_name[COLOUR] = colour.drift(before, after)
    for name, kind in ((OTHER_CHANGE, OTHER), (CLASS_CHANGE, CLASS)):
        if now.get(kind):
            similarity = likeness.alike(likeness.thumbnails(base[kind]), likeness.thumbnails(now[kind]))
            by_name[name] = float(np.clip(1 - similarity, 0, 1).mean())
    if now.get(SUBJECT) and training:
        own, others = likeness.thumbnails(list(training)), likeness.thumbnails(list(held)) if held else np.empty((0, 1))
        copied = likeness.copying(likeness.thumbnails(now[SUBJECT]), own, others)
        if copied is not None:
            by_name[COPYING] = copied
    return by_name


def warnings(curves: Curves) -> list[str]:
    """A sentence for each figure that has turned with its last value."""
    return [sentence for name, limit in LIMITS.items() if (sentence := _warning(limit, [value for _, value in curves.get(name, ())]))]


def _warning(limit: Limit, values: Sequence[float]) -> str:
    if not values or values[-1] <= limit.value:
        return ""
    sentence = limit.says.format(value=values[-1], limit=limit.value)
    if len(values) == 1 or values[-2] <= limit.value:
        return sentence
    grows = [later > earlier > limit.value for earlier, later in itertools.pairwise(values)]
    # Two in a row, and only the first time: a third would say the same.
    return f"It grows on. {sentence}" if grows[-2:] == [True, True] and grows[-3:] != [True] * 3 else ""
