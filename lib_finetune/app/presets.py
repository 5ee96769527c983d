"""Presets: those that come with Finetune and those that a person saved."""

from __future__ import annotations

from pathlib import Path

from lib_finetune.app import settings_files
from lib_finetune.config import presets
from lib_finetune.config.codec import all_leaves
from lib_finetune.config.fields import replaced
from lib_finetune.config.settings import Settings
from lib_finetune.errors import InputError, Problem

_BUILT_IN = {"for a person": "person", "for an animal": "animal", "for a thing": "thing", "for a style": "style"}
_PERSONAL = ("method", "name", "data.images", "data.kind", "data.drawn", "data.trigger", "data.class_word")
"""What a preset leaves alone: the first screen."""


class Presets:
    """Named settings; a person's own lie under Finetune's folder."""

    def __init__(self, data: Path) -> None:
        self._data = data

    def names(self) -> list[str]:
        """Presets, those that come with Finetune first."""
        return [*_BUILT_IN, *settings_files.preset_names(self._data)]

    def with_preset(self, name: str, settings: Settings) -> Settings:
        """The settings with a preset's in place of those below the first screen.

        Raises:
            InputError: there is none of this name, or it cannot be read.
        """
        if name in _BUILT_IN:
            return presets.applied(self.defaults(settings), _BUILT_IN[name], settings.method)
        return settings_files.load_preset(self._data, name, settings)

    def save(self, name: str, settings: Settings) -> str:
        """Keep settings as a preset; returns its name.

        Raises:
            InputError: the name is empty, taken by a built-in one, or cannot be a file's.
        """
        if name.strip() in _BUILT_IN:
            raise InputError([Problem("preset", f"{name.strip()!r} comes with Finetune. Choose another name.")])
        return settings_files.save_preset(self._data, name, settings).stem

    def delete(self, name: str) -> None:
        """
        Raises:
            InputError: there is none of this name, or it comes with Finetune.
        """
        if name in _BUILT_IN:
            raise InputError([Problem("preset", f"{name!r} comes with Finetune and stays.")])
        settings_files.delete_preset(self._data, name)

    def defaults(self, settings: Settings) -> Settings:
        """The settings with everything below the first screen at its default."""
        for path, leaf in all_leaves().items():
            if path not in _PERSONAL:
                settings = replaced(settings, path, leaf.default)
        return settings

    def default(self, settings: Settings, path: str) -> Settings:
        """The settings with one of them at its default.

        Raises:
            InputError: there is no such setting.
        """
        if path not in all_leaves():
            raise InputError([Problem(path, "there is no such setting.")])
        return replaced(settings, path, all_leaves()[path].default)
