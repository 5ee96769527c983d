"""Class images: images of the class in general, made with the loaded model before training and kept for the next run (prior preservation)."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lib_finetune.data.file_kinds import OWN_NOTES
from lib_finetune.errors import FinetuneError, PictureInterruptedError, SaveError, is_out_of_memory
from lib_finetune.files import write_atomically
from lib_finetune.ports.checkpoint import CheckpointInfo
from lib_finetune.ports.pictures import HostPictures, PictureRequest

if TYPE_CHECKING:
    from PIL import Image

_log = logging.getLogger(__name__)
_BATCH = 4
_STEPS = 25
_VERSION = 2
"""Version of the way in which images are made; images of another version are kept, and new ones are made. Version 1 had traces of other extensions."""


class ClassPictures:
    """A folder of class images for one checkpoint and everything else that an image depends on; an image's number is its seed."""

    def __init__(
        self, pictures: HostPictures, data: Path, info: CheckpointInfo, prompt: str, side_px: int, clip_skip: int | None = None
    ) -> None:
        """
        Args:
            data: Finetune's own folder.
            prompt: "a photo of dog".
            side_px: width and height of the images.
            clip_skip: that of the training; None: as the host is set.
        """
        self._pictures = pictures
        self._request = PictureRequest(prompt, width_px=side_px, height_px=side_px, steps=_STEPS, clip_skip=clip_skip)
        model = [info.sha256 or [str(info.path or info.name), info.short_hash], info.vae, info.prediction]
        made_with = [_VERSION, model, self._request.look()]
        self.folder = data / "classes" / hashlib.sha256(json.dumps(made_with, sort_keys=True).encode("utf-8")).hexdigest()[:16]
        self._about = {"version": _VERSION, "checkpoint": info.name, "vae": info.vae, **self._request.look(), "side_px": side_px}

    def missing(self, count: int) -> list[int]:
        """Numbers of the first ``count`` images that are not there yet."""
        return [number for number in range(1, count + 1) if not self._file(number).is_file()]

    def announce(self, count: int) -> str:
        """A sentence: how many images exist, how many are needed, and how long that takes, if it is known."""
        missing = len(self.missing(count))
        if not missing:
            return f"Class images: {count} of {self._request.prompt!r} are there from an earlier run."
        sentence = f"Class images of {self._request.prompt!r}: have {count - missing}, need {count}"
        seconds = self._seconds()
        return (
            f"{sentence}, about {_duration(missing * seconds)}."
            if seconds
            else f"{sentence}; how long it takes is told after the first ones."
        )

    def make(
        self,
        count: int,
        progress: Callable[[int, int], None],
        say: Callable[[str], None],
        stop_asked: Callable[[], bool],
        interrupt_asked: Callable[[], bool] = lambda: False,
        write: Callable[[Path, bytes], None] = write_atomically,
    ) -> bool:
        """Make the missing images; False if a stop was asked for. Finished images stay in either case.

        Args:
            stop_asked: asked between batches, and after an interrupted one; it may wait, as in a pause.
            interrupt_asked: asked between sampling steps; an unfinished batch is made again unless a stop was asked for.
            write: (file, its bytes); writes an image.

        Raises:
            FinetuneError: as `HostPictures.make_batch`.
            SaveError: the folder cannot be written.
        """
        missing, known = self.missing(count), self._seconds()
        began = time.monotonic()
        at_once, first = _BATCH, 0
        while first < len(missing):
            if stop_asked():
                return False
            progress(count - len(missing) + first, count)
            numbers = missing[first : first + at_once]
            runs = _runs(numbers)
            while runs:
                run = runs.pop(0)
                try:
                    images = self._painted(run, stop_asked, interrupt_asked)
                except (FinetuneError, RuntimeError, MemoryError) as error:
                    if len(run) == 1 or not is_out_of_memory(error):
                        raise
                    images = []
                if images is None:
                    return False
                if not images:  # outside the handler, because its error keeps the frames and their memory
                    say(f"There is no room on the device for {len(run)} class images at once; they are made one at a time.")
                    runs = [[number] for number in (*run, *(number for later in runs for number in later))]
                    at_once = 1
                    continue
                for number, image in zip(run, images, strict=True):
                    content = io.BytesIO()
                    image.save(content, format="PNG")
                    write(self._file(number), content.getvalue())
            each = (time.monotonic() - began) / (first + len(numbers))
            if first == 0 and not known:
                say(f"A class image takes {each:.1f} s: {_duration(each * (len(missing) - len(numbers)))} to go.")
            first += len(numbers)
            self._remember_speed(each)
        return True

    def _remember_speed(self, seconds: float) -> None:
        """Store the speed, which only the sentence at the start of the next run needs."""
        try:
            write_atomically(self.folder / OWN_NOTES, json.dumps({**self._about, "seconds": seconds}, indent=2).encode("utf-8"))
        except SaveError as error:
            _log.warning("%s", error)

    def _painted(self, numbers: list[int], stop_asked: Callable[[], bool], interrupt_asked: Callable[[], bool]) -> list[Image.Image] | None:
        """Images of neighbouring numbers, made again if the person interrupted them in the WebUI; None at a stop."""
        request = dataclasses.replace(self._request, seed=numbers[0], interrupt_asked=interrupt_asked)
        while True:
            try:
                return self._pictures.make_batch(request, len(numbers))
            except PictureInterruptedError:
                if stop_asked():
                    return None

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:05d}.png"

    def _seconds(self) -> float:
        """Seconds for one image last time, or 0."""
        try:
            return float(json.loads((self.folder / OWN_NOTES).read_text(encoding="utf-8"))["seconds"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0.0


def _runs(numbers: list[int]) -> list[list[int]]:
    """The numbers in groups of neighbours, because a batch has consecutive seeds."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"
