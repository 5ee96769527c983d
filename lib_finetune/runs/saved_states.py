"""The states in a run's folder: the one that it goes on from, and those that are kept so that more steps can be trained later."""

from __future__ import annotations

import logging
import re
from collections.abc import Container
from pathlib import Path

from lib_finetune.errors import InputError
from lib_finetune.training import state

_log = logging.getLogger(__name__)
STATE = "state.safetensors"
"""Of a run that has not ended; it goes on from it."""
FINAL = "final.safetensors"
"""Of the last step of a run that is done."""
_OF_STEP = re.compile(r"state-(\d{6,})\.safetensors")


def of_step(folder: Path, step: int) -> Path:
    """Where the state of a file that was saved on the way lies."""
    return folder / f"state-{step:06d}.safetensors"


def kept(folder: Path) -> dict[int, Path]:
    """Step → state, of all that more steps can be trained from; one that cannot be read is left out."""
    found = _of_steps(folder)
    for path in (folder / STATE, folder / FINAL):
        try:
            if path.is_file():
                found[int(state.outline(path)["trainer"]["step"])] = path
        except (InputError, KeyError, TypeError, ValueError) as error:
            _log.warning("%s is no state: %s", path, error)
    return dict(sorted(found.items()))


def tidy(folder: Path, steps: Container[int]) -> None:
    """Remove the states of files that were saved on the way and are gone.

    Args:
        steps: of the files that are there.
    """
    for step, path in _of_steps(folder).items():
        if step not in steps:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:  # costs only room
                _log.warning("%s was not removed: %s", path, error)


def _of_steps(folder: Path) -> dict[int, Path]:
    matches = ((_OF_STEP.fullmatch(path.name), path) for path in folder.glob("state-*.safetensors"))
    return {int(match[1]): path for match, path in matches if match}
