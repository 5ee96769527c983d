"""The watch on side effects: figures of a preview against the base's images, and the words when one of them turns."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from lib_finetune.evaluation import colour, likeness

SUBJECT, CLASS, OTHER = "subject", "class", "other"
COLOUR, CLASS_CHANGE, OTHER_CHANGE, COPYING = "colour drift", "class change", "other change", "copying"
UNRELATED = ("a photo of a house by the sea", "a bowl of fruit on a table")
"""What a subject has nothing to do with: a wide view outdoors and a still life indoors, so that both light and objects are looked at."""

Curves = Mapping[str, Sequence[tuple[int, float]]]


FIGURES = (COLOUR, OTHER_CHANGE, CLASS_CHANGE, COPYING)
# A difference of 2.3 can just be seen (Mahy et al., 1994), one of 10 is another colour at a glance; this is the mean over images
# of other things, in which chance cancels out. On nano (docs/measurements.md) a sane DreamBooth stays below 10, one at 30 times its rate is at 38 to 59.
COLOUR_LIMIT = 15.0
"""Above it, colour drift is said; growing at two previews in a row above it, it is said again. The other figures compare thumbnails, which a new
pose moves as well: they are shown as curves and have no limit."""
_DRIFTED = "Colours of images that have nothing to do with the subject have shifted by {value:.0f} (more than {limit:.0f})."
_BACK = "Keep an earlier snapshot, or train again with a lower learning rate or fewer steps."


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
    """A sentence where colour drift has turned with its last value."""
    values = [value for _, value in curves.get(COLOUR, ())]
    if not values or values[-1] <= COLOUR_LIMIT:
        return []
    sentence = f"{_DRIFTED.format(value=values[-1], limit=COLOUR_LIMIT)} {_BACK}"
    if len(values) == 1 or values[-2] <= COLOUR_LIMIT:
        return [sentence]
    grows = [later > earlier > COLOUR_LIMIT for earlier, later in itertools.pairwise(values)]
    # Two in a row, and only the first time: a third would say the same.
    return [f"It grows on. {sentence}"] if grows[-2:] == [True, True] and grows[-3:] != [True] * 3 else []
