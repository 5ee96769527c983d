"""The identity of a set of images: a run does not resume on images that have changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from lib_finetune.data.scan import Picture


def fingerprint(pictures: Sequence[Picture], class_pictures: Sequence[Picture] = ()) -> str:
    """sha256, hex, over all that a run takes from its images: names, bytes, captions, repeats, and their order.

    The folder itself may have moved.
    """
    rows = [
        [[picture.name, picture.content, picture.caption, picture.repeats, picture.folder_words] for picture in group]
        for group in (pictures, class_pictures)
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
