"""The shelf: presets, the last settings, and settings read from files and results."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

from lib_finetune.app import settings_files
from lib_finetune.config import presets
from lib_finetune.config.codec import all_leaves
from lib_finetune.config.fields import replaced
from lib_finetune.config.settings import Settings
from lib_finetune.errors import InputError, Problem
from lib_finetune.files import safe_name, write_atomically

_BUILT_IN = {"for a person": "person", "for an animal": "animal", "for a thing": "thing", "for a style": "style"}
_PERSONAL = ("method", "name", "data.images", "data.kind", "data.drawn", "data.trigger", "data.class_word")
"""What a preset leaves alone: the first screen."""
_RESULTS = (".safetensors", ".pt", ".ckpt")


class Shelf:
    """Settings that are kept under Finetune's folder."""

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

    def export(self, settings: Settings) -> Path:
        """Write settings as a file to give away; returns it."""
        path = self._data / "exported" / f"{safe_name(settings.name) or 'settings'}-{time.strftime('%Y%m%d-%H%M%S')}.json"
        write_atomically(path, settings_files.exported(settings).encode("utf-8"))
        return path

    def from_file(self, path: Path, now: Settings) -> tuple[Settings, list[str]]:
        """Settings of an exported file, or of a result's metadata; and what could not be restored, in words.

        Raises:
            InputError: the file holds none.
        """
        if path.suffix.lower() in _RESULTS:
            restored = settings_files.of_result(path, self._data)
            return restored.settings, list(restored.missing)
        return settings_files.imported(path, now), []

    def keep_last(self, settings: Settings) -> None:
        """Remember what was trained last."""
        settings_files.keep_last(self._data, settings)

    def last(self) -> Settings:
        """What was trained last, without its name, which is taken; the defaults where nothing was."""
        found = settings_files.last(self._data)
        return dataclasses.replace(found, name="") if found else Settings()
