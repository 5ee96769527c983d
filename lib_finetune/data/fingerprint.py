"""A fingerprint of pictures and captions, by which a run knows that its data are the same when it goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from lib_finetune.data.scan import Picture


def fingerprint(pictures: Sequence[Picture], class_pictures: Sequence[Picture] = ()) -> str:
    """sha256, hex, over names, contents, repeats and captions in order; the folder may have moved."""
    digest = hashlib.sha256()
    for group in (pictures, class_pictures):
        for picture in group:
            digest.update(repr((picture.path.parent.name, picture.path.name, picture.content, picture.repeats, picture.caption)).encode())
        digest.update(b"/")
    return digest.hexdigest()
