"""The files made here and the class images, as HTML. No gradio here, so that it is tested as text."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from lib_finetune.ui import markup
from lib_finetune.ui.html import picture_url

_KINDS = {"lora": "LoRA", "checkpoint": "checkpoint", "embedding": "embedding"}


def files(entries: Sequence[Mapping[str, Any]], key: str) -> str:
    """Cards of the files.

    Args:
        entries: `Library.entries`.
        key: opens pictures and files.
    """
    return markup.render("library", items=[_item(entry, key) for entry in entries], total=sum(entry["bytes"] for entry in entries), key=key)


def _item(entry: Mapping[str, Any], key: str) -> dict[str, Any]:
    address = picture_url(key, "library", entry["token"], "picture")
    date = time.strftime("%Y-%m-%d", time.localtime(entry["changed"]))
    return {
        **entry,
        "kind": _KINDS[entry["kind"]],
        "date": date,
        "cover": f"{address}&small=1&n={entry['picture']}" if entry["picture"] else "",
        "full": f"{address}&n={entry['picture']}",
        "address": picture_url(key, "library", entry["token"], "file"),
        "words": f"{entry['name']} {_KINDS[entry['kind']]} {entry['base']} {entry['call']} {date}".lower(),
    }


def class_images(sets: Sequence[Mapping[str, Any]], key: str) -> str:
    """Class images, by what they were made with; each can be deleted.

    Args:
        sets: `ClassImages.sets`.
        key: opens the images.
    """
    shown = []
    for each in sets:
        images = []
        for file in each["files"]:
            address = picture_url(key, "class-images", each["folder"], file)
            images.append({"file": file, "full": address, "small": f"{address}&small=1"})
        shown.append({**each, "images": images, "count": len(images)})
    return markup.render("class_images", sets=shown)
