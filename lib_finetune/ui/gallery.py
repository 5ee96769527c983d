"""The images as the model will see them, as HTML: crop, bucket, caption with its tokens, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from lib_finetune.ui import markup
from lib_finetune.ui.html import button, picture_url


def captions(task: Mapping[str, Any] | None) -> str:
    """How far the writing of captions is; when it has ended, the page's script looks at the images again."""
    if task is None:
        return ""
    if task["state"] in ("queued", "running"):
        done = f"{task['done']} of {task['total']}" if task["total"] else "waits for its turn"
        return f"<div><span>Captions are being written: {done}</span> {button('Stop', 'stop task', task=task['id'])}</div>"
    look = f'data-look="{escape(task["id"])}"'
    if task["state"] == "failed":
        return f'<div class="finetune-problems" role="alert" {look}>{escape(task["message"])}</div>'
    written = task["result"].get("captions", 0)
    return f'<div class="finetune-note" {look}>{written} caption{"s" * (written != 1)} written beside the images.</div>'


def summary(view: Mapping[str, Any] | None) -> str:
    """The line under the folder: how many images, captions, and what is broken."""
    if view is None:
        return ""
    return f'<div class="finetune-found">{escape(" · ".join(_counts(view)))}</div>'


def _counts(view: Mapping[str, Any]) -> list[str]:
    pictures, broken = view["pictures"], view["broken"]
    captions = sum(picture["caption_file"] is not None for picture in pictures)
    flagged = sum(bool(picture["flags"]) for picture in pictures)
    parts = [f"{len(pictures)} image{'s' * (len(pictures) != 1)}", f"{captions} caption{'s' * (captions != 1)}"]
    return parts + [f"{len(broken)} broken ⚠"] * bool(broken) + [f"{flagged} to look at ⚠"] * bool(flagged)


def render(view: Mapping[str, Any] | None, key: str) -> str:
    """All images as equal tiles, or what to do where there are none.

    Args:
        key: opens the thumbnails.
    """
    if view is None:
        return markup.render("gallery_empty")
    return markup.render(
        "gallery",
        summary=" · ".join(_counts(view)),
        lines=_lines(view),
        faults=_faults(view),
        tiles=[_tile(picture, key) for picture in view["pictures"]],
        tags=view.get("tags", ()),
        sentences=view.get("sentences", False),
        can_undo=view.get("can_undo", False),
    )


def _lines(view: Mapping[str, Any]) -> list[str]:
    sizes = ", ".join(f"{bucket['pictures']} at {bucket['width_px']}×{bucket['height_px']}" for bucket in view["buckets"])
    return [
        view["sentence"],
        *view.get("subject_lines", ()),
        f"Sizes in training: {sizes} px.",
        *view.get("notes", ()),
        *(group["message"] for group in view.get("groups", ())),
    ]


def _faults(view: Mapping[str, Any]) -> list[str]:
    """What does not belong to an image that can be used."""
    faults = [f"{Path(path).name}: {reason}" for path, reason in (*view["broken"], *view["unread_captions"])]
    faults += [f"{Path(path).name}: a caption without an image." for path in view["orphans"]]
    faults += [
        f"{Path(path).name}: passed over, for cat.png.txt goes before cat.txt, and .txt before .caption." for path in view["doubles"]
    ]
    faults += [f"{Path(path).name}: its folder's name asks for 0 repeats." for path in view["never"]]
    return faults + [message for _, message in view["problems"]]


def _tile(picture: Mapping[str, Any], key: str) -> dict[str, Any]:
    bucket = f"{picture['bucket'][0]}×{picture['bucket'][1]}"
    facts = [f"{picture['width_px']}×{picture['height_px']} → {bucket}"]
    facts += [f"×{picture['repeats']}"] * (picture["repeats"] != 1) + ["held out"] * picture["held_out"]
    facts += ["another part each time"] * picture["crop_varies"]
    own = picture["caption_file"] is not None
    address = picture_url(key, "thumbnails", picture["token"])
    return {
        "name": picture["name"],
        "token": picture["token"],
        "small": address,
        "full": f"{address}&large=1",
        "mask": picture_url(key, "masks", picture["token"]),
        "masked": picture["mask"] is not None,
        "bucket": bucket,
        "held_out": picture["held_out"],
        "facts": " · ".join(facts),
        "own": own,
        "origin": f"from {Path(picture['caption_file']).name}" if own else "from the caption template; type to give it one of its own",
        "text": (picture["caption_text"] or "") if own else "",
        "caption": picture["caption"],
        "tokens": picture["tokens"],
        "counted": f"{picture['tokens']} tokens" + " · another caption each time" * picture["caption_varies"],
        "over_chunk": picture["over_chunk"],
        "meanings": picture.get("caption_meanings", ()),
        "flags": [flag["message"] for flag in picture["flags"]],
    }
