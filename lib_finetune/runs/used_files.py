"""What runs use of Finetune's folder in common: encoded images and sets of class images. Each run notes its own, so that they can go with it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from lib_finetune.runs.folder import RunFolder

_log = logging.getLogger(__name__)
LATENTS, CLASSES = Path("cache") / "latents", Path("classes")
"""Below a host's data."""


class UsedFiles:
    """The notes of one run. For one thread. A note that cannot be written is a file that stays; a run does not end by it."""

    def __init__(self, folder: RunFolder, data: Path, class_images: Iterable[Path] = ()) -> None:
        """
        Args:
            data: the host's.
            class_images: that the run uses; of those of the person's own nothing is noted.

        Attributes:
            latents: the folder of the cache.
        """
        self.latents = data / LATENTS
        self._file = folder.used_files
        self._noted = set(_lines(self._file))
        self._note("version 1")
        for place in dict.fromkeys(path.parent for path in class_images):
            if place.parent == data / CLASSES:
                self._note(f"classes {place.name}")

    def note_latent(self, key: str) -> None:
        """An encoded image, by its key in the cache."""
        self._note(f"latent {key}")

    def _note(self, line: str) -> None:
        if line in self._noted:
            return
        self._noted.add(line)
        try:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        except OSError as error:
            _log.debug("%s cannot be written: %s", self._file, error)


def used_by(folder: Path, data: Path) -> set[Path] | None:
    """The files and folders below ``data`` that the run on a folder noted; None for a run of a version that noted nothing."""
    lines = list(_lines(RunFolder(folder).used_files))
    if not lines:
        return None
    places = set()
    for line in lines:
        kind, _, name = line.partition(" ")
        if name and name == Path(name).name:
            if kind == "latent":
                places.add(data / LATENTS / name[:2] / f"{name}.safetensors")
            elif kind == "classes":
                places.add(data / CLASSES / name)
    return places


def _lines(file: Path) -> Iterator[str]:
    try:
        yield from file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):  # there is none, or it is damaged
        return
