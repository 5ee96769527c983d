"""Class images that were made: seen, and deleted one by one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_finetune.errors import InputError, Problem

if TYPE_CHECKING:
    from lib_finetune.jobs.queue import Jobs


class ClassImages:
    """Those in Finetune's folder, a set for each prompt, checkpoint and size."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._folder = jobs.host.paths.data / "classes"

    def sets(self) -> list[dict[str, Any]]:
        """Each set: its folder's name, the prompt, the checkpoint, its files in order, and their bytes."""
        if not self._folder.is_dir():
            return []
        sets = [_set(folder) for folder in sorted(self._folder.iterdir()) if folder.is_dir()]
        return [each for each in sets if each["files"]]

    def file(self, folder: str, name: str) -> Path:
        """One of the images.

        Raises:
            InputError: there is none.
        """
        known = {each["folder"]: each["files"] for each in self.sets()}
        if name not in known.get(folder, ()):
            raise InputError([Problem("file", f"There is no class image {name!r}.")])
        return self._folder / folder / name

    def delete(self, folder: str, name: str) -> None:
        """Delete one of them; the next run makes it again.

        Raises:
            InputError: there is none, or a training may be reading it.
        """
        file = self.file(folder, name)
        if any(not job.ended for job in self._jobs.known.all()):
            raise InputError(
                [
                    Problem(
                        "file", "A training is running or waiting and may need the class images. Delete them when all trainings have ended."
                    )
                ]
            )
        file.unlink(missing_ok=True)


def _set(folder: Path) -> dict[str, Any]:
    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # of an earlier version, or of a run that was ended too early
        about = {}
    files = sorted(folder.glob("*.png"))
    about = about if isinstance(about, dict) else {}
    return {
        "folder": folder.name,
        "prompt": str(about.get("prompt") or "class images"),
        "checkpoint": str(about.get("checkpoint") or ""),
        "files": [file.name for file in files],
        "bytes": sum(file.stat().st_size for file in files),
    }
