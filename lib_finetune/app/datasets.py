"""Training images: dropped, looked at before training, and captioned."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from lib_finetune.app import dropped_files, upload_limits
from lib_finetune.app.caption_edits import CaptionEdits
from lib_finetune.app.dropped_file import DroppedFile
from lib_finetune.config.settings import Settings
from lib_finetune.data import tags
from lib_finetune.data.caption_file import save_caption
from lib_finetune.data.file_kinds import readable_endings
from lib_finetune.data.images import load_rgb
from lib_finetune.errors import InputError, Problem, SaveError
from lib_finetune.files import at_home, pasted_path, safe_name
from lib_finetune.jobs.background_task import BackgroundTask
from lib_finetune.preflight.dataset_report import THUMBNAIL_PX, Looks, PictureView, thumbnail, view

if TYPE_CHECKING:
    from PIL.Image import Image

    from lib_finetune.app.thumbnails import Thumbnails
    from lib_finetune.jobs.queue import Jobs

_SEEN_KEPT = 5000
_LARGE_PX = 1024
FILE_BYTES, FILES, DROP_BYTES = upload_limits.FILE_BYTES, upload_limits.FILES, upload_limits.DROP_BYTES
LIMITS = upload_limits.LIMITS


class Datasets:
    """Any thread. Images are known by a token once they were looked at, so that a request names no path."""

    def __init__(self, jobs: Jobs, thumbnails: Thumbnails) -> None:
        self._thumbnails = thumbnails
        self._jobs = jobs
        self._host = jobs.host
        self._looks = Looks(self._host.captions.face)
        self._dropping = threading.Lock()
        self._edits = CaptionEdits()
        self._seen: dict[str, tuple[PictureView, Path, Path | None]] = {}

    def keep(self, dropped: Sequence[tuple[str, bytes | BinaryIO]], folder: str = "", into: str = "") -> Path:
        """Put dropped images and captions into a dataset folder; returns it. What else was dropped is left out, see `left_out`.

        Args:
            dropped: (name, content); a name may have the folders that were dropped with it.
            folder: name of the dataset folder, "" for a new one.
            into: a folder; where it is a dataset folder of ours, they are added to it instead.

        Raises:
            InputError: none can be used, none was sent, or they are more than `LIMITS` says; nothing was kept.
            SaveError: the folder cannot be written.
        """
        with self._dropping:
            ours = self._host.paths.data / "datasets"
            place: Path | None = ours / safe_name(folder) if safe_name(folder) else None
            if into.strip() and at_home(into).resolve().parent == ours.resolve() and at_home(into).is_dir():
                place = at_home(into)
            files, left_out = dropped_files.sorted_out(dropped, _names_in(place))
            if not files and not (dropped and place and place.is_dir()):
                raise InputError([Problem("data.images", _nothing_of(left_out))])
            _refuse_too_many(files, place)
            place = place or _new_folder(ours)
            dropped_files.store(files, place)
            return place

    def left_out(self, names: Sequence[str]) -> list[str]:
        """Which of dropped files are not kept, by kind, in words."""
        return dropped_files.lines(dropped_files.sorted_out([(name, b"") for name in names])[1])

    def view(self, settings: Settings) -> dict[str, Any]:
        """`preflight.dataset_report.view` as plain values, with a token for each image.

        Raises:
            InputError: the folder or a setting of the images will not do.
        """
        report = view(settings, self._host.text_tools(), self._looks)
        plain = dataclasses.asdict(report)
        classes = at_home(settings.data.class_images) if pasted_path(settings.data.class_images) else None
        for picture, shown in zip(report.pictures, plain["pictures"], strict=True):
            # The crop and the file's time are in it, so that a browser asks anew for a thumbnail that has changed.
            shown["token"] = hashlib.sha256(
                repr((picture.path, picture.crop, _changed(picture.path), picture.mask and _changed(picture.mask))).encode()
            ).hexdigest()[:24]
            self._seen[shown["token"]] = (picture, Path(report.folder), classes)
        while len(self._seen) > _SEEN_KEPT:
            self._seen.pop(next(iter(self._seen)))
        texts = [picture.caption_text for picture in report.pictures if picture.caption_text]
        plain["sentences"] = tags.are_sentences(texts)
        plain["tags"] = [{"text": text, "count": count} for text, count in tags.counts(texts)]
        plain["can_undo"] = self._edits.can_undo
        return plain

    def known(self, token: str) -> PictureView:
        """An image that was looked at.

        Raises:
            InputError: it was not.
        """
        return self._picture(token)[0]

    def thumbnail(self, token: str, *, large: bool = False, bare: bool = False) -> bytes:
        """A small JPEG of an image that was looked at, its crop framed; made once.

        Args:
            large: as large as a dialog shows it.
            bare: without its mask on it, for a mask to be painted.

        Raises:
            InputError: it was not looked at, or is gone.
        """
        picture, side_px = self._picture(token)[0], _LARGE_PX if large else THUMBNAIL_PX
        shown = dataclasses.replace(picture, mask=None) if bare else picture
        return self._thumbnails.kept(f"{token}|{side_px}{'|bare' * bare}", lambda: thumbnail(shown, side_px))

    def caption(self, token: str, text: str) -> str | None:
        """Write an image's caption beside it, or take it away with an empty text; returns the caption file, if there is one.

        Raises:
            InputError: the image was not looked at, or is gone.
            SaveError: the file cannot be written.
        """
        picture, folder, classes = self._picture(token)
        file = save_caption(Path(picture.path), text, folder, classes)
        return str(file) if file else None

    def edit_captions(self, settings: Settings, how: str, text: str, instead: str = "", chosen: Collection[str] = ()) -> dict[str, int]:
        """Change the captions of all images, or of some; images without a caption of their own stay as they are.

        Args:
            how: "front" or "behind" (``text`` is added), "replace" (by ``instead``) or "remove"; of sentences words count, of tags whole tags.
            chosen: tokens; none for all images.

        Returns:
            "changed": how many captions; "without": how many images have none.

        Raises:
            InputError: the folder will not do, there is no text, or no image is among the chosen.
            SaveError: a file cannot be written; those before are changed, and `undo_captions` brings them back.
        """
        if how not in tags.HOW:
            raise InputError([Problem("how", f"{how!r} is none of {', '.join(tags.HOW)}.")])
        if not text.strip():
            raise InputError([Problem("text", "is empty. Write a tag or words, or choose one from the table.")])
        view = self.view(settings)
        pictures = [picture for picture in view["pictures"] if not chosen or picture["token"] in chosen]
        if not pictures:
            raise InputError([Problem("chosen", "None of the chosen images is in the folder any more. Choose them again.")])
        change = tags.CaptionChange(how, text, instead, view["sentences"])
        old = [(picture, picture["caption_text"]) for picture in pictures if picture["caption_text"] is not None]
        new = [(picture, change.applied(before)) for picture, before in old if change.applied(before) != before]

        def write() -> None:
            for picture, caption in new:
                self.caption(picture["token"], caption)

        self._edits.make((Path(picture["path"]) for picture in pictures), write)
        return {"changed": len(new), "without": len(pictures) - len(old)}

    def undo_captions(self) -> int:
        """See `CaptionEdits.undo`."""
        return self._edits.undo()

    def captioners(self) -> list[str]:
        """Names of what can write captions here."""
        return list(self._host.captions.captioners())

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
            raise InputError([Problem("data.images", "Every image has its caption already. Delete those that are to be written anew.")])

        def describe(image: Image) -> str:
            return self._host.captions.describe(captioner, image)

        def work(task: BackgroundTask) -> dict[str, Any]:
            return {"captions": self.fill_captions(settings, describe, task.progress, task.stop_asked)}

        return self._jobs.tasks.add("captions", work, settings.data.images)

    def fill_captions(
        self, settings: Settings, describe: Callable[[Image], str], progress: Callable[[int, int], None], stop_asked: Callable[[], bool]
    ) -> int:
        """Write a caption for each image that has none; returns how many caption files there are of it.

        Args:
            describe: says what an RGB image shows.

        Raises:
            FinetuneError: an image could not be described, or the folder not be written; captions written before stay.
        """
        report = view(settings, self._host.text_tools(), self._looks)
        without = [picture for picture in report.pictures if picture.caption_file is None]
        written: set[Path] = set()
        for done, picture in enumerate(without):
            if stop_asked():
                break
            progress(done, len(without))
            file = save_caption(Path(picture.path), describe(load_rgb(Path(picture.path))), Path(report.folder))
            written |= {file} if file else set()
        return sum(file.is_file() for file in written)

    def _picture(self, token: str) -> tuple[PictureView, Path, Path | None]:
        """An image that was looked at, the folder of the training images, and that of the class images if one was named."""
        if token not in self._seen:
            raise InputError([Problem("picture", "This image is not known any more. Look at the folder again.")])
        return self._seen[token]


def _names_in(place: Path | None) -> list[str]:
    return sorted(path.name for path in place.iterdir()) if place and place.is_dir() else []


def _nothing_of(left_out: Sequence[DroppedFile]) -> str:
    if not left_out:
        return "No images were sent."
    kinds = ", ".join(sorted(ending[1:] for ending in readable_endings()))
    return f"{' '.join(dropped_files.lines(left_out))} Images are {kinds}; captions are txt files of the same name."


def _refuse_too_many(files: Sequence[DroppedFile], place: Path | None) -> None:
    """
    Raises:
        InputError: they are more than `LIMITS` says, with what lies in the folder already.
    """
    sizes = [(file.name, _size(file.content)) for file in files]
    large = [name for name, size in sizes if size > FILE_BYTES]
    lying = [path.stat().st_size for path in place.iterdir() if path.is_file()] if place and place.is_dir() else []
    if large or len(files) + len(lying) > FILES or sum(size for _, size in sizes) + sum(lying) > DROP_BYTES:
        message = f"Too large: {', '.join(large[:5])}. {LIMITS}" if large else LIMITS
        raise InputError([Problem("data.images", message)])


def _size(content: bytes | BinaryIO) -> int:
    if isinstance(content, bytes):
        return len(content)
    size = content.seek(0, io.SEEK_END)
    content.seek(0)
    return size


def _new_folder(ours: Path) -> Path:
    """A folder that nobody else has: several may drop images in one second.

    Raises:
        SaveError: it cannot be made.
    """
    name, number = time.strftime("%Y%m%d-%H%M%S"), 2
    place = ours / name
    while True:
        try:
            ours.mkdir(parents=True, exist_ok=True)
            place.mkdir()
        except FileExistsError:
            place, number = ours / f"{name}-{number}", number + 1
        except OSError as error:
            raise SaveError(f"{place} cannot be made: {error.strerror or error}.") from error
        else:
            return place


def _changed(path: str) -> int:
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return 0
