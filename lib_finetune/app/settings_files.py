"""Settings that outlive a session: presets of the person's own, the last ones used, and those that a result was made with."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_finetune.assembly.artifact_kinds import artifact_kind_of
from lib_finetune.config import codec
from lib_finetune.config.fields import replaced, value_at
from lib_finetune.config.places import with_absolute_places
from lib_finetune.config.settings import Settings
from lib_finetune.config.validation import name_faults
from lib_finetune.errors import CheckpointError, InputError, Problem
from lib_finetune.export import embedding_file
from lib_finetune.files import at_home, pasted_path, safe_name, standing, write_atomically
from lib_finetune.model import checkpoint_reader, tensor_file, weights_file
from lib_finetune.runs.folder import SETTINGS, RunFolder

if TYPE_CHECKING:
    from lib_finetune.access import Folders

_log = logging.getLogger(__name__)
_FIELD = "preset"
_LAST = "last.json"
METADATA_KEY = "finetune_settings"
SUBJECT = ("name", "data.images", "data.class_images", "data.trigger", "data.class_word")
"""What is about this subject alone, and is no part of a preset."""
PATHS = ("data.images", "data.class_images", "embedding.init", "embedding.template", "network.start")
"""Settings that name a place on this machine."""
_FOLDERS = PATHS[:2]
"""Those that name nothing else; the others may be words too."""
_RESULTS = (".safetensors", ".pt", ".ckpt")
SETTINGS_BYTES = 10**6
HEADER_BYTES = 16 * 10**6
"""Of a result only the header is sent, which tells of all tensors and how they were trained."""


class SettingsFiles:
    """Settings as they come from requests, files and results, and as they are kept."""

    def __init__(self, data: Path, folders: Folders) -> None:
        """
        Args:
            data: Finetune's folder.
            folders: which ones requests may name.
        """
        self._data = data
        self._folders = folders

    def from_values(self, values: Mapping[str, Any]) -> Settings:
        """Settings from nested values, as in a settings file.

        Raises:
            InputError: unknown names, wrong types, folders that may not be named.
        """
        return self.allowed(with_absolute_places(codec.from_dict(values)))

    def allowed(self, settings: Settings) -> Settings:
        """The same settings.

        Raises:
            InputError: they name folders that requests may not.
        """
        problems: list[Problem] = []
        for path in PATHS:
            text = str(value_at(settings, path))
            if path in _FOLDERS or _names_a_place(text):
                try:
                    self._folders.check(text, path)
                except InputError as error:
                    problems += error.problems
        if problems:
            raise InputError(problems)
        return settings

    def from_file(self, path: str) -> tuple[Settings, list[str]]:
        """Settings of an exported file, or of a result's metadata; and what could not be restored, in words.

        Raises:
            InputError: the file may not be named, or holds none.
        """
        self._folders.check(path, "path")
        return self.from_local_file(at_home(path), Settings())

    def from_local_file(self, path: Path, now: Settings) -> tuple[Settings, list[str]]:
        """As `from_file`, of a file that is known to be allowed; an exported file leaves what it does not name as it is ``now``."""
        if path.suffix.lower() in _RESULTS:
            restored = of_result(path, self._data)
            return restored.settings, list(restored.missing)
        return imported(path, now), []

    def from_upload(self, name: str, content: bytes) -> tuple[Settings, list[str], bool]:
        """As `from_file`, of a file that was sent; third: whether it holds what is about the subject, too.

        Args:
            content: all of an exported file; of a result its beginning, see `of_beginning`.

        Raises:
            InputError: it holds none, or is larger than such files are.
        """
        file = Path(Path(name.replace("\\", "/")).name)
        is_result = file.suffix.lower() in _RESULTS
        if len(content) > (HEADER_BYTES if is_result else SETTINGS_BYTES):
            raise InputError([Problem("file", f"{file.name} is larger than 1 MB, the most that a file of settings may have.")])
        if is_result:
            restored = of_beginning(file, content, self._data)
            return restored.settings, list(restored.missing), True
        return codec.parsed(content, file), [], False

    def for_form(self, values: object, now: Settings, *, subject: bool) -> Settings:
        """Settings that `from_upload` gave, for the form.

        Args:
            subject: whether what is about the subject is taken from them too, or stays as it is now.

        Raises:
            InputError: they are none.
        """
        if not isinstance(values, dict):
            raise InputError([Problem("file", "No settings were sent.")])
        settings = codec.from_dict(values)
        return settings if subject else with_subject_of(settings, now)

    def export(self, settings: Settings) -> Path:
        """Write settings as a file to give away; returns it."""
        stem, number = f"{safe_name(settings.name) or 'settings'}-{time.strftime('%Y%m%d-%H%M%S')}", 2
        path = self._data / "exported" / f"{stem}.json"
        while path.exists():  # two of one name in one second
            path, number = path.with_name(f"{stem}-{number}.json"), number + 1
        write_atomically(path, exported(settings).encode("utf-8"))
        return path

    def keep_last(self, settings: Settings) -> None:
        """Remember what was trained last."""
        keep_last(self._data, settings)

    def last(self) -> Settings:
        """What was trained last, without its name, which is taken; the defaults where nothing was."""
        settings = last(self._data)
        return dataclasses.replace(settings, name="") if settings else Settings()


def _names_a_place(text: str) -> bool:
    """Whether a text means a file or folder here, rather than words."""
    bare = pasted_path(text)  # as it is read later
    try:
        return embedding_file.names_file(text) or bare.startswith(".") or Path(bare).exists()
    except (OSError, ValueError):
        return False


def preset_names(data: Path) -> list[str]:
    """Names of the presets in Finetune's folder, sorted."""
    folder = _folder(data)
    return sorted((path.stem for path in folder.glob("*.json")), key=str.casefold) if folder.is_dir() else []


def save_preset(data: Path, name: str, settings: Settings) -> Path:
    """Keep the settings under a name, replacing those that it had; what is about the subject alone is left out.

    Raises:
        InputError: the name cannot be a file's.
        SaveError: as `files.write_atomically`.
    """
    path = _file(data, name)
    write_atomically(path, exported(settings).encode("utf-8"))
    return path


def load_preset(data: Path, name: str, settings: Settings) -> Settings:
    """The settings of a preset; what is about the subject alone stays as in ``settings``.

    Raises:
        InputError: there is no such preset, or it cannot be read.
    """
    return imported(_existing(data, name), settings)


def delete_preset(data: Path, name: str) -> None:
    """Delete a preset.

    Raises:
        InputError: there is none of this name.
    """
    _existing(data, name).unlink()


def exported(settings: Settings) -> str:
    """The settings as the text of a preset's file, which `imported` and the command line's ``--config`` read."""
    values = codec.to_dict(settings)
    for path in SUBJECT:
        *sections, last = path.split(".")
        place = values
        for section in sections:
            place = place[section]
        del place[last]
    return json.dumps(values, indent=2, ensure_ascii=False)


def imported(path: Path, settings: Settings) -> Settings:
    """Settings from a file that somebody exported; what is about the subject alone stays as in ``settings``.

    Raises:
        InputError: the file cannot be read, or names settings that there are not.
    """
    return with_subject_of(codec.load(path, with_subject_of(Settings(), settings)), settings)


def with_subject_of(loaded: Settings, settings: Settings) -> Settings:
    """``loaded``, with what is about the subject alone as in ``settings``."""
    for field in SUBJECT:
        loaded = replaced(loaded, field, value_at(settings, field))
    return loaded


def _folder(data: Path) -> Path:
    return data / "presets"


def _file(data: Path, name: str) -> Path:
    faults = name_faults(name)
    if faults:
        raise InputError([Problem(_FIELD, fault) for fault in faults])
    path = _folder(data) / f"{name}.json"
    return standing(path) or path


def _existing(data: Path, name: str) -> Path:
    path = _file(data, name)
    if not path.is_file():
        known = ", ".join(preset_names(data)) or "none"
        raise InputError([Problem(_FIELD, f"there is no preset {name!r}; there are: {known}.")])
    return path


# -- the last ones -----------------------------------------------------------------------------------------------------


def keep_last(data: Path, settings: Settings) -> None:
    """Store the settings as those used last.

    Raises:
        SaveError: as `files.write_atomically`.
    """
    write_atomically(data / _LAST, codec.to_json(settings).encode("utf-8"))


def last(data: Path) -> Settings | None:
    """The settings used last, or None when there are none that can be read."""
    path = data / _LAST
    try:
        return codec.load(path) if path.is_file() else None
    except InputError as error:
        _log.warning("The last settings are not used: %s", error)
        return None


# -- those of a result -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Restored:
    """Settings of an earlier result.

    Attributes:
        settings: with the values that the run worked with; what was automatic then is a number now.
        missing: a sentence for each thing that could not be restored.
    """

    settings: Settings
    missing: tuple[str, ...] = ()


def of_result(file: Path, data: Path) -> Restored:
    """Read the settings that a LoRA, embedding or checkpoint of ours was made with from its metadata.

    Folders stand there without their place; they are looked for among the runs in Finetune's folder. A ``.ckpt`` or ``.pt`` has no
    metadata; of such a file the run is looked for as a whole, and automatic values stay automatic.

    Raises:
        InputError: the file is missing or broken, or tells no settings of ours.
    """
    weights_file.refuse_absent(file, "file")
    if file.suffix.lower() != ".safetensors":
        return _of_run(file, data)
    try:
        return _restored(file, checkpoint_reader.metadata(file), data)
    except CheckpointError as error:
        raise InputError([Problem("file", problem.message) for problem in error.problems]) from error


def of_beginning(file: Path, content: bytes, data: Path) -> Restored:
    """As `of_result`, of a file that lies elsewhere.

    Args:
        file: its name; nothing is read there.
        content: its beginning, at least the header of a ``.safetensors``; of another one nothing is needed.

    Raises:
        InputError: as `of_result`.
    """
    if file.suffix.lower() != ".safetensors":
        return _of_run(file, data)
    try:
        return _restored(file, tensor_file.metadata_in(content), data)
    except ValueError as error:
        raise InputError([Problem("file", f"{file.name} cannot be read: {error}.")]) from error


def _restored(file: Path, metadata: Mapping[str, str], data: Path) -> Restored:
    values = _values_in(file, metadata)
    missing = [f"{path} is no setting of this version; it is left out." for path in _drop_unknown(values)]
    settings = codec.from_dict(values)
    for path in _FOLDERS:
        name = value_at(settings, path)
        if name and (place := _place(data, settings, path)) is None:
            missing.append(f"{path}: the folder {name!r} was not found. Choose it again.")
            settings = replaced(settings, path, "")
        elif name:
            settings = replaced(settings, path, place)
    return Restored(settings, tuple(missing))


def _values_in(file: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    text = metadata.get(METADATA_KEY)
    if text is None:
        raise InputError([Problem("file", f"{file.name} tells no settings of Finetune.")])
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError([Problem("file", f"The settings in {file.name} are damaged: {error}")]) from error
    if not isinstance(values, dict):
        raise InputError([Problem("file", f"The settings in {file.name} are damaged: they are no table.")])
    return values


def _drop_unknown(values: dict[str, Any], prefix: str = "") -> list[str]:
    """Take out what this version does not know; returns the dotted names."""
    known = codec.all_leaves()
    dropped = []
    for key in list(values):
        path = f"{prefix}{key}"
        if isinstance(values[key], Mapping) and any(leaf.startswith(path + ".") for leaf in known):
            dropped += _drop_unknown(values[key], path + ".")
        elif path not in known and path != "version":
            del values[key]
            dropped.append(path)
    return dropped


def _of_run(file: Path, data: Path) -> Restored:
    """The settings of the newest run that made a file of this name."""
    settings = next(
        (candidate for candidate in _runs(data) if f"{candidate.name}{artifact_kind_of(candidate).suffix(candidate)}" == file.name), None
    )
    if settings is None:
        message = (
            f"{file.name} cannot tell its settings, and no run of this name is left in {data / 'runs'}. Only .safetensors files tell them."
        )
        raise InputError([Problem("file", message)])
    gone = [path for path in _FOLDERS if value_at(settings, path) and not at_home(value_at(settings, path)).is_dir()]
    return Restored(settings, tuple(f"{path}: the folder {value_at(settings, path)} is gone. Choose it again." for path in gone))


def _runs(data: Path) -> Iterator[Settings]:
    """Settings of the runs whose folders are left, the newest first."""
    runs = data / "runs"
    for run in sorted(runs.iterdir(), reverse=True) if runs.is_dir() else ():
        stored = RunFolder(run).settings() if (run / SETTINGS).is_file() else None
        if stored is not None:
            yield stored


def _place(data: Path, settings: Settings, path: str) -> str | None:
    """Where a folder lies, by the newest run of this result's name that had one of that folder's name and finds it still there."""
    name = value_at(settings, path)
    for stored in _runs(data):
        folder = at_home(value_at(stored, path))
        if stored.name == settings.name and folder.name == name and folder.is_dir():
            return str(value_at(stored, path))
    return None
