"""The images as the model will see them, as HTML: crop, bucket, caption with its tokens, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from lib_finetune.ui.html import button, picture_url

_EMPTY = (
    '<div class="finetune-empty">Name a folder with 4 to 20 images, or drop them on the left. '
    "Then you see here how each is cut, and the caption that the model reads.</div>"
)


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
    pictures, broken = view["pictures"], view["broken"]
    captions = sum(picture["caption_file"] is not None for picture in pictures)
    flagged = sum(bool(picture["flags"]) for picture in pictures)
    parts = [f"{len(pictures)} image{'s' * (len(pictures) != 1)}", f"{captions} caption{'s' * (captions != 1)}"]
    parts += [f"{len(broken)} broken ⚠"] * bool(broken) + [f"{flagged} to look at ⚠"] * bool(flagged)
    return f'<div class="finetune-found">{escape(" · ".join(parts))}</div>'


def render(view: Mapping[str, Any] | None, key: str) -> str:
    """All images, or what to do where there are none.

    Args:
        key: opens the thumbnails.
    """
    if view is None:
        return _EMPTY
    tiles = "".join(_tile(picture, key) for picture in view["pictures"])
    lines = "".join(f"<div>{escape(line)}</div>" for line in _lines(view))
    flags = "".join(f'<div class="finetune-flag">{escape(line)}</div>' for line in _faults(view))
    return f'<div class="finetune-lines">{lines}{flags}</div><div class="finetune-tiles">{tiles}</div>'


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


def _tile(picture: Mapping[str, Any], key: str) -> str:
    name, token = escape(picture["name"]), escape(picture["token"])
    facts = [f"{picture['width_px']}×{picture['height_px']} → {picture['bucket'][0]}×{picture['bucket'][1]}"]
    facts += [f"×{picture['repeats']}"] * (picture["repeats"] != 1) + ["held out"] * picture["held_out"]
    facts += ["another part each time"] * picture["crop_varies"]
    own = picture["caption_file"] is not None
    origin = f"from {Path(picture['caption_file']).name}" if own else "from the caption template; type to give it one of its own"
    counted = f"{picture['tokens']} tokens" + " · another caption each time" * picture["caption_varies"]
    read = "".join(f"<span>{escape(meaning)}</span>" for meaning in picture.get("caption_meanings", ()))
    flags = "".join(f'<span class="finetune-flag">{escape(flag["message"])}</span>' for flag in picture["flags"])
    own_text = (picture["caption_text"] or "") if own else ""
    return (
        f'<figure class="finetune-tile"><img src="{picture_url(key, "thumbnails", picture["token"])}" alt="{name}" loading="lazy">'
        f'<figcaption><b title="{name}">{name}</b><span>{escape(" · ".join(facts))}</span>'
        f'<textarea class="finetune-caption" rows="3" data-picture="{token}" aria-label="caption of {name}" title="{escape(origin)}" '
        f'placeholder="{"" if own else escape(origin)}">{escape(own_text)}</textarea>'
        f'<span class="finetune-read" translate="no">{escape(picture["caption"])}</span>'
        f'<span class="{"finetune-flag" if picture["over_chunk"] else ""}">{escape(counted)}</span>{read}{flags}</figcaption></figure>'
    )
