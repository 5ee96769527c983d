"""The identity of a set of images: a run does not resume on images that have changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from lib_finetune.data.scan import Picture


def fingerprint(pictures: Sequence[Picture], class_pictures: Sequence[Picture] = ()) -> str:
    """sha256, hex, over all that a run takes from its images: names, bytes, captions, repeats, masks, and their order.

    The folder itself may have moved.
    """
    rows = [
        [[picture.name, picture.content, picture.caption, picture.repeats, picture.folder_words, *_mask(picture)] for picture in group]
        for group in (pictures, class_pictures)
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _mask(picture: Picture) -> list[str]:
    """Nothing where there is none, so that states of before there were masks are known again."""
    return [picture.mask.content, *(["alpha"] if picture.mask.alpha else [])] if picture.mask else []
