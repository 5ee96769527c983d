"""Training images: dropped, looked at before training, and captioned."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_finetune.config.settings import Settings
from lib_finetune.data.caption_file import save_caption
from lib_finetune.data.images import load_rgb
from lib_finetune.errors import InputError, Problem
from lib_finetune.files import safe_name, write_atomically
from lib_finetune.jobs.background_task import BackgroundTask
from lib_finetune.preflight.dataset_report import Looks, PictureView, thumbnail, view

if TYPE_CHECKING:
    from PIL.Image import Image

    from lib_finetune.jobs.queue import Jobs

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".avif")
_CAPTIONS = (".txt", ".caption")
_SEEN_KEPT = 5000


class Datasets:
    """Any thread. Pictures are known by a token once they were looked at, so that a request names no path."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._host = jobs.host
        self._looks = Looks(self._host.face)
        self._seen: dict[str, tuple[PictureView, Path]] = {}

    def keep(self, dropped: Sequence[tuple[str, bytes]], folder: str = "", into: str = "") -> Path:
        """Put dropped pictures and captions into a dataset folder; returns it.

        Args:
            dropped: (name, content).
            folder: name of the dataset folder, "" for a new one.
            into: a folder; where it is a dataset folder of ours, they are added to it instead.

        Raises:
            InputError: a file is neither picture nor caption, or none was sent.
            SaveError: the folder cannot be written.
        """
        wrong = [name for name, _ in dropped if Path(name).suffix.lower() not in (*_PICTURES, *_CAPTIONS)]
        if wrong or not dropped:
            message = f"{', '.join(wrong)}: neither picture nor caption file." if wrong else "No pictures were sent."
            kinds = ", ".join(kind[1:] for kind in _PICTURES)
            raise InputError([Problem("data.images", f"{message} Pictures are {kinds}; captions are txt files of the same name.")])
        ours = self._host.paths.data / "datasets"
        place = ours / (safe_name(folder) or time.strftime("%Y%m%d-%H%M%S"))
        if into.strip() and Path(into).resolve().parent == ours.resolve() and Path(into).is_dir():
            place = Path(into)
        for name, content in dropped:
            write_atomically(_free(place / Path(name.replace("\\", "/")).name, content), content)
        return place

    def view(self, settings: Settings) -> dict[str, Any]:
        """`dataset_view.view` as plain values, with a token for each picture.

        Raises:
            InputError: the folder or a setting of the pictures will not do.
        """
        report = view(settings, self._host.text_tools(), self._looks)
        plain = dataclasses.asdict(report)
        for picture, shown in zip(report.pictures, plain["pictures"], strict=True):
            # The crop and the file's time are in it, so that a browser asks anew for a thumbnail that has changed.
            shown["token"] = hashlib.sha256(repr((picture.path, picture.crop, _changed(picture.path))).encode()).hexdigest()[:24]
            self._seen[shown["token"]] = (picture, Path(report.folder))
        while len(self._seen) > _SEEN_KEPT:
            self._seen.pop(next(iter(self._seen)))
        return plain

    def thumbnail(self, token: str) -> bytes:
        """A small JPEG of a picture that was looked at, its crop framed.

        Raises:
            InputError: it was not looked at, or is gone.
        """
        content = io.BytesIO()
        thumbnail(self._picture(token)[0]).save(content, format="JPEG", quality=85)
        return content.getvalue()

    def caption(self, token: str, text: str) -> str | None:
        """Write a picture's caption beside it, or take it away with an empty text; returns the caption file, if there is one.

        Raises:
            InputError: the picture was not looked at, or is gone.
            SaveError: the file cannot be written.
        """
        picture, folder = self._picture(token)
        file = save_caption(Path(picture.path), text, folder)
        return str(file) if file else None

    def captioners(self) -> list[str]:
        """Names of what can write captions here."""
        return list(self._host.captioners())

    def write_captions(self, settings: Settings, captioner: str) -> BackgroundTask:
        """Write a caption for each image that has none, before the next training begins.

        Raises:
            InputError: there is no such captioner, the folder will not do, or every image has its caption.
        """
        if captioner not in self.captioners():
            known = ", ".join(self.captioners())
            message = f"There is no {captioner!r}: {known}." if known else "Captions can be written inside the WebUI only."
            raise InputError([Problem("captioner", message)])
        if all(picture["caption_file"] for picture in self.view(settings)["pictures"]):
            raise InputError([Problem("data.images", "Every picture has its caption already. Delete those that are to be written anew.")])

        def describe(image: Image) -> str:
            return self._host.describe(captioner, image)

        def work(task: BackgroundTask) -> dict[str, Any]:
            return {"captions": self.fill_captions(settings, describe, task.progress, task.stop_asked)}

        return self._jobs.run_in_background("captions", work, settings.data.images)

    def fill_captions(
        self, settings: Settings, describe: Callable[[Image], str], progress: Callable[[int, int], None], stop_asked: Callable[[], bool]
    ) -> int:
        """Write a caption for each picture that has none; returns how many.

        Args:
            describe: says what an RGB picture shows.

        Raises:
            FinetuneError: a picture could not be described, or the folder not be written; captions written before stay.
        """
        report = view(settings, self._host.text_tools(), self._looks)
        without = [picture for picture in report.pictures if picture.caption_file is None]
        for done, picture in enumerate(without):
            if stop_asked():
                return done
            progress(done, len(without))
            save_caption(Path(picture.path), describe(load_rgb(Path(picture.path))), Path(report.folder))
        return len(without)

    def _picture(self, token: str) -> tuple[PictureView, Path]:
        if token not in self._seen:
            raise InputError([Problem("picture", "This picture is not known any more. Look at the folder again.")])
        return self._seen[token]


def _free(path: Path, content: bytes) -> Path:
    """The path, or with a number behind the name where another picture has it; captions are replaced."""
    free, number = path, 2
    while path.suffix.lower() in _PICTURES and free.is_file() and free.read_bytes() != content:
        free, number = path.with_name(f"{path.stem}-{number}{path.suffix}"), number + 1
    return free


def _changed(path: str) -> int:
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return 0
