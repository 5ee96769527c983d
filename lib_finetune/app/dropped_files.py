"""Files that were dropped together: which of them are kept, and under which names, so that what belongs to an image stays with it."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from lib_finetune.app import dropped_tables
from lib_finetune.app.dropped_file import Content, DroppedFile
from lib_finetune.data.caption_tables import is_table
from lib_finetune.data.file_kinds import CAPTION_ENDINGS, FileKind, companion_of, kinds_of, name_key, readable_endings
from lib_finetune.files import write_atomically

_KEPT = (FileKind.PICTURE, FileKind.CAPTION, FileKind.OTHER_CAPTION)
_NAME_BYTES = 160


def sent_endings() -> list[str]:
    """Endings of files that the page sends whole; of all others the name is enough to say what they are."""
    return sorted({*readable_endings(), *CAPTION_ENDINGS, ".jsonl", ".json", ".tags", ".csv"})


def sorted_out(dropped: Sequence[tuple[str, Content]], lying: Iterable[str] = ()) -> tuple[list[DroppedFile], list[DroppedFile]]:
    """Those that are kept, and those that are left out; by the rule for folders, so that a stray file is no obstacle.

    Args:
        dropped: (name, content).
        lying: names of files in the folder that they come to.
    """
    paths = [_path(name) for name, _ in dropped]
    folders = dict.fromkeys([PurePosixPath(), *(path.parent for path in paths)])
    kinds = kinds_of([*paths, *(folder / name for folder in folders for name in lying)])
    files = [DroppedFile(path, content, kinds[path]) for path, (_, content) in zip(paths, dropped, strict=True)]
    return [file for file in files if _is_kept(file)], [file for file in files if not _is_kept(file)]


def _is_kept(file: DroppedFile) -> bool:
    if file.kind is FileKind.MASK:
        return file.path.suffix.lower() in readable_endings()
    return file.kind in _KEPT


def lines(left_out: Sequence[DroppedFile]) -> list[str]:
    """What was left out, by kind, with the first names."""
    names: dict[FileKind, list[str]] = defaultdict(list)
    for file in left_out:
        names[file.kind].append(file.name)
    return [f"{kind.value}: {len(listed)} ({', '.join(listed[:5])}{', …' if len(listed) > 5 else ''})." for kind, listed in names.items()]


def store(files: Sequence[DroppedFile], folder: Path) -> None:
    """Put the files into a folder. Where an image's name is another image's there, all that belongs to it is renamed together.

    An image that lies there already is not stored again, and captions that come for it replace those that it has; those of tables do not.

    Raises:
        SaveError: the folder cannot be written.
    """
    lying = {name_key(path.name): path for path in folder.iterdir()} if folder.is_dir() else {}
    captions = {id(files[place]): caption for place, caption in dropped_tables.captions_of(files).items()}
    captioned: dict[Path, str] = {}
    tables: dict[Path, bytes] = {}
    for stem, group in _groups(files):
        number = 1
        while not _fits(group, stem, number, lying):
            number += 1
        for file in group:
            name = _renamed(_flat_name(file, stem), stem, number)
            target = lying.get(name_key(name), folder / name)
            if file.kind is FileKind.OTHER_CAPTION and name_key(name) in lying and not _is_there(file, name, lying):
                target = _free(file, target, lying)
            lying[name_key(target.name)] = target
            if file.kind is FileKind.OTHER_CAPTION and is_table(file.name):
                tables[target] = file.read()
                continue
            write_atomically(target, file.read())
            if id(file) in captions:
                captioned[target] = captions[id(file)]
    if tables:
        dropped_tables.store(tables, captioned, folder)


def _groups(files: Sequence[DroppedFile]) -> list[tuple[str, list[DroppedFile]]]:
    """Files that share an image's stem, of one folder that was dropped; (stem, files) each.

    Several of one name and folder, as from a page that tells no folders, are of groups of their own, in their order.
    """
    pictures = [file.path for file in files if file.kind is FileKind.PICTURE]
    groups: dict[tuple[PurePosixPath, str, int], list[DroppedFile]] = defaultdict(list)
    stems: dict[tuple[PurePosixPath, str, int], str] = {}
    times: dict[PurePosixPath, int] = defaultdict(int)
    for file in sorted(files, key=lambda file: file.kind is not FileKind.PICTURE):  # images first, so that the spelling is theirs
        owner = file.path if file.kind is FileKind.PICTURE else _owner(file, pictures)
        name = file.path.parent / name_key(file.name)
        key = (owner.parent, name_key(owner.stem), times[name])
        times[name] += 1
        stems.setdefault(key, owner.stem)
        groups[key].append(file)
    return [(stems[key], group) for key, group in groups.items()]


def _owner(file: DroppedFile, pictures: Sequence[PurePosixPath]) -> PurePosixPath:
    """The image that a file belongs to; itself where none was dropped with it."""
    if beside := companion_of(file.path, pictures):
        return beside
    if file.kind is FileKind.MASK:  # in a folder of its own, under the image's name
        same = next((picture for picture in pictures if name_key(picture.stem) == name_key(file.path.stem)), None)
        return same or file.path
    return file.path


def _flat_name(file: DroppedFile, stem: str) -> str:
    """The name that says what a file is without its folder: a mask that is one by its folder has its image's name there."""
    picture = PurePosixPath(f"{stem}.png")
    if file.kind is not FileKind.MASK or kinds_of([picture, PurePosixPath(file.name)])[PurePosixPath(file.name)] is FileKind.MASK:
        return file.name
    return f"{file.path.stem}-masklabel{file.path.suffix}"


def _fits(group: Sequence[DroppedFile], stem: str, number: int, lying: Mapping[str, Path]) -> bool:
    """Whether the names are free for the group: no other image has its stem, and nothing of another content its names."""
    names = [_renamed(_flat_name(file, stem), stem, number) for file in group]
    pictures = [(file, name) for file, name in zip(group, names, strict=True) if file.kind is FileKind.PICTURE]
    if not pictures:
        return True
    same = [name for file, name in pictures if _is_there(file, name, lying)]
    if len(same) == len(pictures):
        return True
    new_stem = name_key(Path(pictures[0][1]).stem)
    twins = {new_stem + ending for ending in readable_endings()} & lying.keys()
    if twins - {name_key(name) for name in same}:
        return False
    return all(name_key(name) not in lying or _is_there(file, name, lying) for file, name in zip(group, names, strict=True))


def _is_there(file: DroppedFile, name: str, lying: Mapping[str, Path]) -> bool:
    path = lying.get(name_key(name))
    return path is not None and path.is_file() and path.read_bytes() == file.read()


def _renamed(name: str, stem: str, number: int) -> str:
    """The name with a number behind the image's stem in it."""
    if number == 1:
        return name
    place = name.find(stem)
    if place < 0 and len(name_key(name)) == len(name):  # no letter of it is two without its case
        place = name_key(name).find(name_key(stem))
    if place < 0:
        return f"{Path(name).stem}-{number}{Path(name).suffix}"
    return f"{name[: place + len(stem)]}-{number}{name[place + len(stem) :]}"


def _free(file: DroppedFile, path: Path, lying: Mapping[str, Path]) -> Path:
    """The path with a number behind it, under which nothing lies, or the same file."""
    number = 2
    while name_key(name := f"{path.stem}-{number}{path.suffix}") in lying and not _is_there(file, name, lying):
        number += 1
    return path.with_name(name)


def _path(name: str) -> PurePosixPath:
    """A name as it came, with its folders, without what a folder of any system cannot hold or takes for something else."""
    parts = [_safe(part) for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return PurePosixPath(*parts[:-1], _short(parts[-1])) if parts else PurePosixPath("_")


def _safe(part: str) -> str:
    composed = unicodedata.normalize("NFC", part)
    return "".join("_" if letter in '<>:"|?*' or not letter.isprintable() else letter for letter in composed)


def _short(name: str) -> str:
    """The name with endings, short enough for every file system; two that share a stem share it still."""
    stem, dot, endings = name.partition(".") if len(name.encode()) > _NAME_BYTES else (name, "", "")
    while len(stem.encode()) > _NAME_BYTES:
        stem = stem[:-1]
    return f"{stem}{dot}{endings[-40:]}"
