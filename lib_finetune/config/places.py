"""Settings that name a folder of this machine, which are absolute from the moment that they come in."""

from __future__ import annotations

from lib_finetune.config.fields import replaced, value_at
from lib_finetune.config.settings import Settings
from lib_finetune.files import at_home, pasted_path

FOLDERS = ("data.images", "data.class_images")


def with_absolute_folders(settings: Settings) -> Settings:
    """The same with each folder as `at_home` reads it, so that it stays the same one wherever the program stands later."""
    for path in FOLDERS:
        text = str(value_at(settings, path))
        settings = replaced(settings, path, str(at_home(text)) if pasted_path(text) else "")
    return settings
