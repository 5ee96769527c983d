"""Damaged files of a run: each is reported by name, and written anew if a saved state has a copy of it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_finetune.errors import InputError, SaveError
from lib_finetune.files import write_atomically
from lib_finetune.runs import checkpoint_record
from lib_finetune.training import state

if TYPE_CHECKING:
    from lib_finetune.runs.folder import RunFolder

_log = logging.getLogger(__name__)
COPIES = "files"
"""Where a state keeps the texts of `copies`."""


def copies(folder: RunFolder) -> dict[str, str]:
    """Name → text of the small files that a run needs to resume; each state keeps a copy."""
    texts = {}
    for path in (folder.settings_file, folder.checkpoint_file):
        try:
            texts[path.name] = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            _log.warning("%s has no copy: %s", path, error)
    return texts


def mend(folder: RunFolder) -> list[str]:
    """Repair the files of a run before it resumes; returns sentences on the repairs. Call under the run's lock.

    A file without a copy stays as it is: its reader reports it.
    """
    lines, headers = _set_damaged_states_aside(folder)
    whole = {folder.settings_file: folder.settings() is not None, folder.checkpoint_file: _tells_checkpoint(folder)}
    for path in [path for path, good in whole.items() if not good]:
        damage = "is damaged" if path.exists() else "is missing"
        text = next((texts[path.name] for texts in headers if path.name in texts), None)
        if text is not None:
            try:
                write_atomically(path, text.encode("utf-8"))
            except SaveError as error:
                _log.warning("%s", error)
                continue
            lines.append(f"{path.name} of this run {damage}; it was written anew from the saved state.")
    return lines


def _tells_checkpoint(folder: RunFolder) -> bool:
    try:
        return checkpoint_record.stored(folder) is not None
    except InputError:
        return False


def _set_damaged_states_aside(folder: RunFolder) -> tuple[list[str], list[dict[str, str]]]:
    """(sentences, the copies in each whole state); a damaged newer state is renamed if the last good one is whole."""
    whole: list[dict[str, str]] = []
    damaged: list[tuple[Path, InputError]] = []
    for path in (folder.next_state, folder.state, *(path for _, path in sorted(folder.states_of_steps().items(), reverse=True))):
        if not path.is_file():
            continue
        try:
            whole.append(_copies_in(state.outline(path)))
        except InputError as damage:
            damaged.append((path, damage))
    lines = []
    for path, error in damaged:
        aside = path.with_name(f"{path.name}.damaged")
        if path == folder.next_state and folder.state.is_file() and folder.state not in [each for each, _ in damaged]:
            try:
                path.replace(aside)
            except OSError as failure:
                _log.warning("%s keeps its name: %s", path, failure)
                continue
            lines.append(f"{error} It is called {aside.name} now, and the run resumes from {folder.state.name}.")
    return lines, whole


def _copies_in(outline: dict[str, Any]) -> dict[str, str]:
    run = outline.get("run")
    texts = run.get(COPIES, {}) if isinstance(run, dict) else {}
    return {str(name): str(text) for name, text in texts.items()} if isinstance(texts, dict) else {}
