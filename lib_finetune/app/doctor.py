"""The doctor: the report for an issue, and a sentence for each thing on this machine that is in the way of training."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lib_finetune.app.report import report_of
from lib_finetune.errors import FinetuneError, denied_in_words, reason_of
from lib_finetune.installation import requirements

if TYPE_CHECKING:
    from lib_finetune.ports.host import Host

ROOM_BYTES = 5_000_000_000
"""Of the disk: a DreamBooth checkpoint with its state needs about that much."""
RAM_BYTES = 4_000_000_000


@dataclass(frozen=True)
class Diagnosis:
    """
    Attributes:
        report: as Markdown, without private paths.
        faults: a sentence each; empty when nothing is in the way.
        notes: what was looked at and is well.
    """

    report: str
    faults: tuple[str, ...]
    notes: tuple[str, ...]


def examine(root: Path, checkpoint: Path | None, open_host: Callable[[Path], Host], random_host: Callable[[Path], Host]) -> Diagnosis:
    """Look at libraries, folders, memory, disk and the checkpoint, then train two steps of each method on random weights.

    Args:
        root: where results go.
        checkpoint: the file to train on; None leaves it out.
        open_host: checkpoint file → a host on it; raises a FinetuneError for a file that cannot be trained on.
        random_host: scratch folder → a host on small random weights.
    """
    faults, notes = list(requirements.problems()), []
    host = None
    if checkpoint is not None:
        try:
            host = open_host(checkpoint)
            notes.append(f"{checkpoint.name} is a checkpoint of Stable Diffusion 1.x.")
        except FinetuneError as error:
            faults.append(str(error))
        except ImportError as error:
            faults.append(_lacks(error))
    for fault, note in (_of_folder(root), _of_disk(root), _of_memory(), _of_training(random_host)):
        faults += [fault] * bool(fault)
        notes += [note] * bool(note)
    return Diagnosis(report_of(host), tuple(dict.fromkeys(faults)), tuple(notes))


def _of_folder(root: Path) -> tuple[str, str]:
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=root):
            pass
    except OSError as error:
        why = denied_in_words(error) or reason_of(error)
        return f"Nothing can be written into {root}: {why} Name another folder with --output-root, or change the rights of this one.", ""
    return "", "The folder of results can be written."


def _of_disk(root: Path) -> tuple[str, str]:
    there = next(folder for folder in (root.absolute(), *root.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if free < ROOM_BYTES:
        return f"{free / 1e9:.1f} GB of the disk are free. A DreamBooth needs about {ROOM_BYTES / 1e9:.0f}, a LoRA 0.2. Make room.", ""
    return "", f"{free / 1e9:.0f} GB of the disk are free."


def _of_memory() -> tuple[str, str]:
    try:
        import psutil
    except ImportError as error:
        return _lacks(error), ""
    free = int(psutil.virtual_memory().available)
    if free < RAM_BYTES:
        return f"{free / 1e9:.1f} GB of main memory are free; {RAM_BYTES / 1e9:.0f} are needed. Close other programs.", ""
    return "", f"{free / 1e9:.0f} GB of main memory are free."


def _of_training(random_host: Callable[[Path], Host]) -> tuple[str, str]:
    with tempfile.TemporaryDirectory(prefix="finetune-", ignore_cleanup_errors=True) as scratch:
        try:
            from lib_finetune.app.self_test import METHODS, self_test

            faults = self_test(random_host(Path(scratch)), Path(scratch))
        except ImportError as error:
            return _lacks(error), ""
        except FinetuneError as error:
            faults = [str(error)]
    if faults:
        return "The self-test failed. " + " ".join(faults), ""
    return "", f"Self-test: two steps of {', '.join(METHODS)} on random weights; the model was as before after each."


def _lacks(error: ImportError) -> str:
    return f"A library cannot be loaded: {error}. The README's part on installing says how it is added."
