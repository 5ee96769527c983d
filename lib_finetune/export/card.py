"""The card beside a file: the WebUI's user metadata (``name.json``) and its image."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_finetune.errors import SaveError
from lib_finetune.files import write_atomically
from lib_finetune.ports.files import Card
from lib_finetune.text_files import read

if TYPE_CHECKING:
    from PIL import Image

_log = logging.getLogger(__name__)


def write_card(artifact: Path, card: Card) -> Path:
    """Write ``name.json`` beside an artifact; what the person wrote there before stays.

    Keys as in the WebUI's `modules/ui_extra_networks_user_metadata.py`.

    Raises:
        SaveError: the folder cannot be written.
    """
    path = artifact.with_suffix(".json")
    ours: dict[str, Any] = {
        "description": card.description,
        "sd version": "SD1",
        "activation text": card.activation_text,
        "preferred weight": card.preferred_weight,
        "notes": card.notes,
    }
    before = _before(path)
    present = {key: value for key, value in before.items() if value not in ("", None, 0)}
    write_atomically(path, json.dumps({**ours, **present}, indent=4, ensure_ascii=False).encode("utf-8"))
    return path


def card_or_reason(artifact: Path, card: Card) -> str:
    """As `write_card`; "" or, where it cannot be written, the sentence to say: the artifact is good without it."""
    try:
        write_card(artifact, card)
    except SaveError as error:
        return f" Its card was not written: {error}"
    return ""


def write_picture(artifact: Path, kind: str, image: Image.Image) -> Path:
    """Write the card's image.

    An embedding's is called ``name.preview.png``: the WebUI opens a plain ``name.png`` in that folder as an embedding.

    Raises:
        SaveError: the folder cannot be written.
    """
    path = artifact.with_suffix(".preview.png" if kind == "embedding" else ".png")
    content = io.BytesIO()
    image.save(content, format="PNG")
    write_atomically(path, content.getvalue())
    return path


def _before(path: Path) -> dict[str, Any]:
    try:
        before = json.loads(read(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        _log.warning("The card %s could not be read and is written anew: %s", path, error)
        return {}
    return before if isinstance(before, dict) else {}
