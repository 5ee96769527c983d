"""Settings that name a folder or file of this machine, which are absolute from the moment that they come in."""

from __future__ import annotations

from pathlib import Path

from lib_finetune.config.fields import replaced, value_at
from lib_finetune.config.settings import Settings
from lib_finetune.files import at_home, names_file, pasted_path

_PLACES = ("data.images", "data.class_images", "network.start")
_PERHAPS = ("embedding.init", "embedding.template")
"""Files, or words."""


def with_absolute_places(settings: Settings) -> Settings:
    """The same with each place as `at_home` reads it, so that it stays the same one wherever the program stands later."""
    for path in _PLACES:
        text = str(value_at(settings, path))
        settings = replaced(settings, path, str(at_home(text)) if pasted_path(text) else "")
    for path in _PERHAPS:
        text = str(value_at(settings, path))
        if _is_place(text):
            settings = replaced(settings, path, str(at_home(text)))
    return settings


def _is_place(text: str) -> bool:
    """Whether a text means a file and no word, even where a file of that name lies beside the program."""
    bare = pasted_path(text)
    return names_file(bare, ()) and (Path(bare).suffix != "" or len(Path(bare).parts) > 1)
