"""Mask files in a folder of training images, and the images that they belong to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lib_finetune.data.file_kinds import FileKind, companion_folder, companion_names, name_key

_LABEL = "-masklabel"


@dataclass(frozen=True)
class Mask:
    """What tells where an image shows what is taught.

    Attributes:
        path: of the mask, white where it is shown; of the image itself where its alpha channel tells.
        content: sha256 of the file's bytes, lower-case hex.
        alpha: whether it is the alpha channel of ``path``.
        box: around all that is shown, as shares 0..1 of the sides: left, top, right, bottom.
    """

    path: Path
    content: str
    alpha: bool = False
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)


def mask_files(masks: Iterable[Path], pictures: Iterable[Path], folder: Path) -> dict[Path, tuple[Path, ...]]:
    """Image → its masks, the one that counts first.

    A mask belongs to the images beside it that its name holds (``cat_mask.png`` to ``cat.jpg``); in a folder of masks, to the images of its
    name in the same place outside of it, else to those of one other folder. Of several, ``cat.jpg-masklabel.png`` goes first, then
    ``cat-masklabel.png``: so what is painted here counts whatever else there is.

    Args:
        folder: that all of them lie in.
    """
    index: dict[PurePosixPath, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for picture in pictures:
        relative = PurePosixPath(picture.relative_to(folder).as_posix())
        for key in {name_key(picture.stem), name_key(picture.name)}:
            index[relative.parent][key].append(picture)
    owned: dict[Path, list[Path]] = defaultdict(list)
    for mask in sorted(masks):
        for picture in _of_mask(PurePosixPath(mask.relative_to(folder).as_posix()), index):
            owned[picture].append(mask)
    return {picture: tuple(sorted(files, key=lambda file: _rank(file, picture))) for picture, files in owned.items()}


def _rank(mask: Path, picture: Path) -> int:
    if mask.parent != picture.parent:
        return 2
    names = [f"{name_key(name)}{_LABEL}" for name in (picture.name, picture.stem)]
    stem = name_key(mask.stem)
    return names.index(stem) if stem in names else 2


def _of_mask(mask: PurePosixPath, index: dict[PurePosixPath, dict[str, list[Path]]]) -> list[Path]:
    stem = name_key(mask.stem)
    names = {*companion_names(stem, FileKind.MASK)}
    beside = _named(index.get(mask.parent, {}), names)
    inside = companion_folder(mask)
    if beside or inside is None:
        return beside
    names |= {stem, name_key(mask.name)}
    place = inside.folder.parent / mask.parent.relative_to(inside.folder)
    if same_place := _named(index.get(place, {}), names):
        return same_place
    elsewhere = [same_name for pictures in index.values() if (same_name := _named(pictures, names))]
    return elsewhere[0] if len(elsewhere) == 1 else []


def _named(pictures: dict[str, list[Path]], names: set[str]) -> list[Path]:
    """The images of the longest name: ``cat_face_mask.png`` is of ``cat_face.jpg``, and of ``cat.jpg`` only where that is not there."""
    return next((pictures[name] for name in sorted(names, key=lambda name: (-len(name), name)) if name in pictures), [])
