"""A folder of images: what can be trained on, with captions and repeats, and in plain words what cannot."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from lib_finetune.data import caption_syntax, folder_names
from lib_finetune.data.caption_tables import CaptionTables
from lib_finetune.data.file_kinds import CAPTION_ENDINGS, FileKind, kinds_of, kohya_root, name_key, readable_endings, unclear_folders
from lib_finetune.data.folder_files import files_of
from lib_finetune.data.images import UnreadablePictureError, decode, examine, focal_position, read
from lib_finetune.data.mask_files import Mask, mask_files
from lib_finetune.errors import InputError, Problem
from lib_finetune.text_files import NotTextError
from lib_finetune.text_files import read as read_text

if TYPE_CHECKING:
    from PIL import Image

_WORKERS = min(8, os.cpu_count() or 1)  # decoding leaves Python's lock; more threads only hold more images in memory
_LISTED = 100
_NAMED = 5
_NAMED_APART = (FileKind.CLASS_IMAGE, FileKind.RESULT, FileKind.MASK, FileKind.CONTROL, FileKind.CACHE)
GOES_FIRST = "another caption file of this image goes first: cat.png.txt before cat.txt, and .txt before .caption"
"""Which of several caption files of one image is read."""


@dataclass(frozen=True)
class Picture:
    """An image that can be trained on.

    Attributes:
        path: the file.
        width_px, height_px: after EXIF rotation.
        caption: what is written of it in a file, `caption_syntax.tidied`; None when nothing is.
        repeats: how often it comes in an epoch (kohya's ``10_name class`` folders; else 1).
        content: sha256 of the file's bytes, lower-case hex; key of all that is cached of it.
        folder_words: "name class" of a kohya folder, or None.
        focus: the point that a focal crop keeps, as shares 0..1 of width and height.
        name: path relative to the scanned folder, with "/".
        caption_file: the file that the caption came from, or None.
        mask: where it shows what is taught; None where all of it counts alike. Of a scan, only its path is known.
    """

    path: Path
    width_px: int
    height_px: int
    caption: str | None
    repeats: int
    content: str
    folder_words: str | None = None
    focus: tuple[float, float] = (0.5, 0.5)
    name: str = ""
    caption_file: Path | None = None
    mask: Mask | None = None

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.path.name)


@dataclass(frozen=True)
class Group:
    """Files of one kind that is not trained on, sorted by name."""

    kind: FileKind
    paths: tuple[Path, ...]

    def line(self, folder: Path) -> str:
        """The group in a sentence: count and first names."""
        return f"{self.kind.value}: {len(self.paths)} ({named([_relative(path, folder) for path in self.paths])})."


@dataclass(frozen=True)
class SharedCaption:
    """A caption file that several images of one stem share, because they have no file of their own."""

    file: Path
    pictures: tuple[str, ...]

    def line(self) -> str:
        """The shared file in a sentence."""
        return (
            f"{self.file.name} is the caption of {named(self.pictures)}. "
            f"An image's own caption file has its whole name, such as {Path(self.pictures[0]).name}.txt."
        )


@dataclass(frozen=True)
class Report:
    """What a scan found; all paths begin with ``folder``.

    Attributes:
        images: can be trained on, sorted by name.
        broken: images and folders that cannot be read, with the reason.
        orphans: caption files that belong to no image.
        doubles: caption files that are not used because another of the same image goes first.
        unread_captions: caption files that are not text, with the reason; their images count as having none.
        never: images in kohya folders with 0 repeats.
        groups: all other files, by kind.
        shared_captions: caption files of several images.
        kohya: where it is laid out for kohya's trainers, the folder of training images and that of class images, if there is one.
        notes: sentences on how the folder is laid out, on names of folders that give no repeats, on files with the captions of many images,
            and on masks of no image.
        unusable_masks: masks of images that cannot be used, with the reason; their images count as having none.
    """

    folder: Path
    pictures: tuple[Picture, ...]
    broken: tuple[tuple[Path, str], ...] = ()
    orphans: tuple[Path, ...] = ()
    doubles: tuple[Path, ...] = ()
    unread_captions: tuple[tuple[Path, str], ...] = ()
    never: tuple[Path, ...] = ()
    groups: tuple[Group, ...] = ()
    shared_captions: tuple[SharedCaption, ...] = ()
    kohya: tuple[Path, Path | None] | None = None
    notes: tuple[str, ...] = ()
    unusable_masks: tuple[tuple[Path, str], ...] = ()

    @property
    def other_kinds(self) -> tuple[Path, ...]:
        """Images of kinds that are not read."""
        return next((group.paths for group in self.groups if group.kind is FileKind.OTHER_PICTURE), ())

    def lines(self) -> list[str]:
        """The report in plain words: one line on what was found, then one for each thing to look at."""
        with_text = sum(picture.caption is not None for picture in self.pictures)
        lines = [f"{_count(len(self.pictures), 'image')} in {self.folder}, {with_text} of them with a caption file."]
        if empty := sum(picture.caption == "" for picture in self.pictures):
            lines.append(f"Empty caption files: {empty}.")
        lines += self.notes
        lines += caption_syntax.sentences(picture.caption for picture in self.pictures)
        lines += self._repeats()
        lines += self._each("Skipped", self.broken)
        lines += self._each("Skipped", ((path, "its folder's name asks for 0 repeats") for path in self.never))
        lines += [group.line(self.folder) for group in self.groups]
        lines += [shared.line() for shared in self.shared_captions[:_LISTED]]
        lines += self._each("Caption not used", ((path, "there is no image of this name beside it") for path in self.orphans))
        lines += self._each("Caption not used", ((path, GOES_FIRST) for path in self.doubles))
        lines += self._each("Caption not used", self.unread_captions)
        return lines

    def _repeats(self) -> list[str]:
        if all(picture.repeats == 1 for picture in self.pictures):
            return []
        views = sum(picture.repeats for picture in self.pictures)
        return [f"Repeats from folder names such as 10_name: an epoch shows {_count(views, 'image')}."]

    def _each(self, what: str, entries: Iterable[tuple[Path, str]]) -> list[str]:
        lines = [f"{what}: {_relative(path, self.folder)} ({reason})." for path, reason in entries]
        more = len(lines) - _LISTED
        return lines if more <= 0 else [*lines[:_LISTED], f"{what}: {more} more of this sort."]


@dataclass(frozen=True)
class Examined:
    """What decoding an image yields: (width, height) in px, sha256 of the bytes, and the point that a focal crop keeps."""

    size: tuple[int, int]
    content: str
    focus: tuple[float, float]


def examined(path: Path, face: Callable[[Image.Image], tuple[float, float] | None] | None = None) -> Examined | str:
    """What decoding the image yields, or the reason why it is broken.

    Args:
        face: finds a face, whose place goes before the point that stands out.

    Raises:
        InputError: as ``face``.
    """
    try:
        data = read(path)
        size, thumbnail = examine(data)
        face_position = face(decode(data)) if face else None
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    except UnreadablePictureError as error:
        return str(error)
    return Examined(size, hashlib.sha256(data).hexdigest(), face_position or focal_position(thumbnail))


def scan(
    folder: Path,
    *,
    field: str = "data.images",
    on_picture: Callable[[int, int], None] | None = None,
    look: Callable[[Path], Examined | str] = examined,
    apart: Path | None = None,
) -> Report:
    """Find the images in a folder and its subfolders, decoding each once to know that it is whole.

    Other files are reported by kind (`file_kinds`). The order depends on the names only.

    Args:
        field: name of the setting that the folder came from, for error messages.
        on_picture: told (done, total) after each image.
        look: decodes an image; one that remembers what it saw makes a second scan fast.
        apart: the folder of class images; files in it do not count as part of this folder.

    Raises:
        InputError: no folder, not readable, or no usable image in it (naming those that are broken).
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100  resolve() would follow links
    listing = files_of(folder, field, apart)
    kinds = kinds_of(PurePosixPath(_relative(path, folder)) for path in listing.files)
    sorted_out = _by_kind(folder, listing.files, kinds, listing.apart)
    candidates = sorted_out.pop(FileKind.PICTURE, [])
    texts = CaptionFiles(sorted_out.pop(FileKind.CAPTION, []), candidates)
    tables = CaptionTables(sorted_out.get(FileKind.OTHER_CAPTION, []), candidates)
    masks = mask_files(_readable(sorted_out.get(FileKind.MASK, [])), candidates, folder)
    used = [path for path in candidates if _kohya(path, folder)[0] > 0]
    pictures, broken = [], list(listing.unreadable)
    with ThreadPoolExecutor(_WORKERS, thread_name_prefix="finetune-scan") as pool:
        # Leaving the loop early, by a stop, cancels what has not begun.
        for done, (path, seen) in enumerate(zip(used, pool.map(look, used), strict=True), start=1):
            if isinstance(seen, str):
                broken.append((path, seen))
            else:
                repeats, words = _kohya(path, folder)
                name = _relative(path, folder)
                text, file = texts.read(path)
                if text is None:
                    text, file = tables.read(path)
                mask = Mask(masks[path][0], "") if path in masks else None
                pictures.append(Picture(path, *seen.size, text, repeats, seen.content, words, seen.focus, name, file, mask))
            if on_picture is not None:
                on_picture(done, len(used))
    report = Report(
        folder,
        tuple(pictures),
        tuple(broken),
        texts.orphans(candidates),
        texts.doubles(candidates),
        (*texts.unread, *tables.unread),
        tuple(path for path in candidates if _kohya(path, folder)[0] == 0),
        _groups(sorted_out, tables.files),
        _shared(pictures),
        _kohya_root(folder, kinds),
    )
    notes = (*_layout(report, kinds, apart), *folder_names.remarks(candidates, folder), *tables.notes(), *_masks(report, masks))
    report = dataclasses.replace(report, notes=notes)
    if not pictures:
        raise InputError([Problem(field, _nothing_usable(report))])
    return report


def tables_of(folder: Path, apart: Path | None = None) -> CaptionTables:
    """The captions of many images in one file that a `scan` would read.

    Raises:
        InputError: the folder cannot be read.
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100  resolve() would follow links
    listing = files_of(folder, "data.images", apart)
    kinds = kinds_of(PurePosixPath(_relative(path, folder)) for path in listing.files)
    sorted_out = _by_kind(folder, listing.files, kinds, listing.apart)
    return CaptionTables(sorted_out.get(FileKind.OTHER_CAPTION, []), sorted_out.get(FileKind.PICTURE, []))


def _by_kind(
    folder: Path, files: Sequence[Path], kinds: Mapping[PurePosixPath, FileKind], apart: Iterable[Path]
) -> dict[FileKind, list[Path]]:
    sorted_out: dict[FileKind, list[Path]] = defaultdict(list)
    of_class = set(apart)
    for path in files:
        kind = FileKind.CLASS_IMAGE if path in of_class else kinds[PurePosixPath(_relative(path, folder))]
        sorted_out[kind].append(path)
    return sorted_out


def _groups(sorted_out: Mapping[FileKind, Sequence[Path]], tables: Collection[Path]) -> tuple[Group, ...]:
    """Files by kind, without our own, and without those that hold the captions of many images, which are reported in more detail."""
    kinds = (kind for kind in FileKind if kind is not FileKind.OWN)
    groups = (Group(kind, tuple(path for path in sorted_out.get(kind, ()) if path not in tables)) for kind in kinds)
    return tuple(group for group in groups if group.paths)


def _shared(pictures: Sequence[Picture]) -> tuple[SharedCaption, ...]:
    readers: dict[Path, list[str]] = defaultdict(list)
    for picture in pictures:
        if picture.caption_file is not None and picture.caption_file.suffix.lower() in CAPTION_ENDINGS:
            readers[picture.caption_file].append(picture.name)
    return tuple(SharedCaption(file, tuple(names)) for file, names in readers.items() if len(names) > 1)


def _kohya_root(folder: Path, kinds: Mapping[PurePosixPath, FileKind]) -> tuple[Path, Path | None] | None:
    names = kohya_root(kinds)
    return (folder / names[0], folder / names[1] if names[1] else None) if names else None


def _layout(report: Report, kinds: Mapping[PurePosixPath, FileKind], apart: Path | None) -> list[str]:
    """Sentences on the layout of the folder, if it matters."""
    notes = []
    if report.kohya:
        subject, classes = report.kohya
        notes.append(f"The folder is laid out for kohya's trainers: the training images are those in {subject}.")
        if classes and apart is None:
            notes.append(f"Class images lie in {classes}: name that folder as class images to keep the class by them.")
    notes += [
        f"{place} is named as a folder of masks or control images, but no image has the names in it: they are trained on as images."
        for place in unclear_folders(kinds)
    ]
    return notes


def _readable(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if path.suffix.lower() in readable_endings()]


def _masks(report: Report, masks: Mapping[Path, Sequence[Path]]) -> list[str]:
    """Which masks are none of an image, or give way to another."""
    group = next((group.paths for group in report.groups if group.kind is FileKind.MASK), ())
    first = {files[0] for files in masks.values()}
    later = {file for files in masks.values() for file in files} - first
    notes = []
    if lost := [_relative(path, report.folder) for path in group if path not in first | later]:
        notes.append(f"Masks that are not used, for no image has their names: {named(lost)}.")
    if later:
        doubles = sorted(_relative(path, report.folder) for path in later)
        notes.append(f"Masks that are not used, for another of the same image goes first: {named(doubles)}.")
    return notes


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _kohya(path: Path, folder: Path) -> tuple[int, str | None]:
    """Repeats and words of the nearest folder named as kohya's trainers want it ("10_zxq dog"), the scanned one included."""
    for parent in path.parents:
        if form := folder_names.kohya_form(parent.name):
            return form
        if parent == folder:
            break
    return 1, None


class CaptionFiles:
    """Caption files of a folder and the images that they belong to: same folder, and the image's whole name or its stem.

    Of several the first is read: ``cat.png.txt`` before ``cat.txt``, then ``.txt`` before ``.caption``, then the one that is spelled as
    the image is. Letter case and composed accents do not part a caption from its image, for images and texts may come from
    different systems.
    """

    def __init__(self, paths: Iterable[Path], pictures: Iterable[Path] = ()) -> None:
        """
        Args:
            images: of the same folders, so that ``cat.jpg.txt`` is the caption of ``cat.jpg`` and not of ``cat.jpg.png`` beside it.
        """
        self._paths = tuple(paths)
        self._files: dict[tuple[Path, str], list[Path]] = defaultdict(list)
        for path in self._paths:
            self._files[path.parent, name_key(path.stem)].append(path)
        self._named = {(path.parent, name_key(path.name)) for path in pictures}
        self.unread: list[tuple[Path, str]] = []
        self._refused: set[Path] = set()

    def of(self, picture: Path) -> list[Path]:
        """The image's caption files, the one that counts first."""
        return list(self._of(picture))

    def read(self, picture: Path) -> tuple[str | None, Path | None]:
        """The caption, its alternatives in lines, and the file that it stands in, or nothing when there is none that can be read."""
        for path in self._of(picture):
            try:
                return caption_syntax.tidied(read_text(path)), path
            except NotTextError as error:
                self._refuse(path, str(error))
            except OSError as error:
                self._refuse(path, f"it cannot be read: {error.strerror or error}")
            return None, None
        return None, None

    def orphans(self, pictures: Iterable[Path]) -> tuple[Path, ...]:
        """The files that belong to none of the images."""
        owned = {path for picture in pictures for path in self._of(picture)}
        return tuple(path for path in self._paths if path not in owned)

    def doubles(self, pictures: Sequence[Path]) -> tuple[Path, ...]:
        """The files that are not read because another of the same image goes first, and that no other image uses."""
        used = {file for picture in pictures for file in self.of(picture)[:1]}
        return tuple(dict.fromkeys(path for picture in pictures for path in self.of(picture)[1:] if path not in used))

    def _of(self, picture: Path) -> list[Path]:
        whole, stem = (picture.parent, name_key(picture.name)), (picture.parent, name_key(picture.stem))
        by_stem = [] if stem in self._named else self._files.get(stem, [])
        return [
            *sorted(self._files.get(whole, []), key=lambda file: _rank(file, picture.name)),
            *sorted(by_stem, key=lambda file: _rank(file, picture.stem)),
        ]

    def _refuse(self, path: Path, reason: str) -> None:
        if path not in self._refused:
            self._refused.add(path)
            self.unread.append((path, reason))


def _rank(file: Path, spelled: str) -> tuple[int, bool, str]:
    return CAPTION_ENDINGS.index(file.suffix.lower()), file.stem != spelled, file.name


def _nothing_usable(report: Report) -> str:
    readable = ", ".join(sorted(ending[1:] for ending in readable_endings()))
    message = f'the folder "{report.folder}" has no image that can be used.'
    if report.broken:
        named = "; ".join(f"{_relative(path, report.folder)}: {reason}" for path, reason in report.broken[:10])
        more = len(report.broken) - 10
        message += f" Broken: {named}{f'; and {more} more' if more > 0 else ''}."
    if report.other_kinds:
        others = ", ".join(sorted({path.suffix.lower() for path in report.other_kinds}))
        message += f" It holds {_count(len(report.other_kinds), 'image')} of other kinds ({others})."
    if report.never:
        message += f" {_count(len(report.never), 'image')} in folders whose name asks for 0 repeats."
    groups = [group for group in report.groups if group.kind is not FileKind.OTHER_PICTURE]
    message += "".join(f" {group.line(report.folder)}" for group in groups)
    if any(group.kind in _NAMED_APART for group in groups):
        message += " To train on images of a folder that is left out, name that folder itself."
    return f"{message} Images may be {readable}."


def named(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
