"""The kind of a file in a folder of training images: what it is by its name and its neighbours', and what is done with it."""

from __future__ import annotations

import contextlib
import enum
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

from PIL import Image

from lib_finetune.files import TEMPORARY

CAPTION_ENDINGS = (".txt", ".caption")
_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".jif", ".jfi", ".pjpeg", ".pjp", ".webp", ".bmp"})
_WITH_PLUGIN = frozenset({".avif", ".heic", ".heif", ".hif"})
"""Read only if this Pillow, or a library that another extension brings, can open them."""


class FileKind(enum.Enum):
    """What a file is; the value names it in the report, with what is done with it."""

    PICTURE = "Pictures"
    CAPTION = "Captions"
    MASK = "Masks"
    CONTROL = "Control images, left out"
    CLASS_IMAGE = "Class images, left out of the training images"
    COPY = "Copies of the images, left out"
    RESULT = "Samples and results of trainings, left out"
    OTHER_PICTURE = "Images of kinds that are not read, left out"
    VIDEO = "Videos, left out"
    OTHER_CAPTION = "Captions in another form, not used"
    CACHE = "Caches and weights of other programs, left out"
    SETTINGS = "Settings of other programs, left out"
    OWN = "Notes of Finetune, left out"
    ARCHIVE = "Archives, left out; unpack them to train on what they hold"
    LEFTOVER = "What a system or another program left behind, left out"
    UNKNOWN = "Files of unknown kinds, left out"


_BY_ENDING = {
    FileKind.OTHER_PICTURE: """.heic .heif .hif .heics .avif .avifs .tif .tiff .gif .apng .mpo .jps .dib .jxl .jxr .wdp .hdp .jp2 .j2k .jpf .jpx
        .psd .psb .xcf .kra .clip .sai .sai2 .mdp .procreate .afphoto .ora .pdn .ai .eps .svg .svgz .exr .hdr .dng .cr2 .cr3 .crw .nef .nrw .arw
        .srf .sr2 .raf .orf .rw2 .raw .rwl .pef .x3f .3fr .fff .iiq .erf .kdc .dcr .mrw .mos .srw .gpr .insp .bpg .flif .qoi .tga .ppm .pgm .pbm
        .pnm .pcx .ico .cur .jls .jpegxl .livp .pxd .ase .aseprite .cdr .indd .sketch .fig .xd""",
    FileKind.VIDEO: ".mp4 .mov .m4v .avi .mkv .webm .wmv .flv .mpg .mpeg .mts .m2ts .3gp .ogv .insv .lrv",
    FileKind.CACHE: ".npz .npy .safetensors .pt .pth .ckpt .bin .pkl .pickle .cache .h5 .hdf5 .hdf .onnx .gguf .lmdb .mdb .sqlite",
    FileKind.OTHER_CAPTION: """.jsonl .ndjson .csv .tsv .tags .tag .cap .captions .text .wd14 .wd .blip .parquet .arrow .rtf .doc .docx .odt .md .pages
        .prompt .prompts .desc .description .descr .annotation .wdtags .wd3 .booru .deepbooru .tagger .blip2 .git .florence .florence2 .llava .cogvlm
        .joy .joycaption .qwen .gemini .gpt .moondream .vlm .nl .srt .vtt""",
    FileKind.SETTINGS: ".json .toml .yaml .yml .ini .cfg .conf .xml .html .py .ipynb .sh .bat .ps1",
    FileKind.ARCHIVE: ".zip .rar .7z .tar .gz .tgz .bz2 .xz .zst .cbz .cbr",
    FileKind.MASK: ".mask",
    FileKind.LEFTOVER: """.db .info .tmp .temp .part .partial .crdownload .download .opdownload .aria2 .!ut .!qb .!sync .bak .old .orig .swp .swo .lnk .url
        .webloc .desktop .lrcat .lrprev .lrtemplate .aae .pp3 .dop .thm .torrent .icloud .filepart .lock .log""",
}
_KIND_OF_ENDING = {ending: kind for kind, endings in _BY_ENDING.items() for ending in endings.split()}
_NO_PICTURES = frozenset({".h5", ".hdf", ".mpg", ".mpeg", ".pdf"})
"""Endings that Pillow knows although such files are no images."""
_SIDECARS = frozenset({".json", ".xmp", ".yaml", ".yml", ".xml", ".html", ".log"})
"""Endings of files that describe the image of the same name beside them."""
_CAPTION_TABLES = re.compile(r"meta|meta[-_. ].*|metadata.*|captions?|tags|prompts?")
_LEFT_BEHIND = re.compile(
    r"thumbs\.db|ehthumbs(_vista)?\.db|desktop\.ini|picasa\.ini|zbthumbnail\.info|folder\.jpg\.lnk|icon\r"
    r"|.*~|~\$.*|~.*\.tmp|.*@syno\w+|.*zone\.identifier"
    r"|.*\bconflicted copy\b.*|.*\.sync-conflict-.*|.*[ _-]conflict-\d.*|.*\([^)]*(conflict|konflikt)[^)]*\).*|.*\.conflict(\.\w+)?|~syncthing~.*",
    re.DOTALL,
)
_SYSTEM_FOLDERS = frozenset(
    {"@eadir", "__macosx", "#recycle", "@recycle", "@recently-snapshot", "$recycle.bin", "system volume information"}
    | {"lost+found", "__pycache__", "node_modules"}
)
_SYSTEM_ENDINGS = (".lrdata", ".photoslibrary", ".cocatalog")
"""Of folders in which a program keeps what it shows of a person's images."""
_RESULT_FOLDERS = frozenset(
    {"sample", "samples", "sample_images", "output", "outputs", "result", "results", "log", "logs", "checkpoint", "checkpoints", "grids"}
    | {"txt2img_images", "txt2img_grids", "txt2img_samples", "img2img_images", "img2img_grids", "img2img_samples", "extras_images"}
    | {"preview", "previews", "train_samples", "training_samples", "lora_samples", "sample_imgs", "validation_images", "validation_samples"}
    | {"generated", "generated_images", "generations", "tensorboard", "wandb", "finetune_output", "quickstart_output"}
)
_CHECKPOINT_FOLDER = re.compile(r"checkpoint_\d+")
_MODEL_FOLDERS = frozenset({"model", "models", "lora", "loras"})
"""Folders of results, if weights lie in them or if they lie beside a folder of kohya's trainers."""
_SUBJECT_FOLDERS = frozenset({"img", "imgs", "image", "images"})
_CLASS_FOLDER = re.compile(
    r"(?!\d+_)(regs?|reg_?(img|imgs|images?|data|pics|dir|folder)(_.*)?|(.*_)?regulari[sz]ations?(_.*)?|classimages"
    r"|(.*_)?class_(images?|imgs|pictures|pics|data|dir)(_.*)?|prior_(images?|imgs|data|preservation)(_.*)?)"
)
_CLASS_BESIDE = frozenset({"class", "classes"})
"""Those of class images beside that of the instance alone: a school has classes, too."""
_INSTANCE_FOLDERS = _SUBJECT_FOLDERS | {"instance", "instances", "instance_images", "instance_data", "instance_imgs", "instance_dir"}
_CACHE_FOLDER = re.compile(r"(?!\d+_)(.*_)?(caches?|latents?|embeds)")
_COPY_FOLDERS = frozenset(
    {"optimized", "optimised", "compressed", "thumb", "thumbs", "thumbnail", "thumbnails", "backup", "backups", "bak"}
)
_MASKED = (
    r"alpha|inpaint|binary|loss|weight|attention|seg|segmentation|sam|face|head|hair|body|skin|subject|object|person|foreground|background|fg|bg|img"
    r"|images?|imgs?|train|training|data|png"
)
"""What masks are of, or for."""
_MASK_FOLDER = re.compile(
    rf"(({_MASKED})_?)*masks?\d*(_({_MASKED}|\d+))*|masklabels?|mattes?|trimaps?|alphas?|segmentations?|seg|segm|ground_truths?|gt"
    r"|masken?|masques?|m[aá]scaras?|maschere|蒙版|遮罩|掩码|マスク"
)
_MASK_FOLDER_OF = re.compile(r"(?!\d+_)(.*_)?masks?(_.*)?")
"""Those where the other words may be the subject's name."""
_WORN = re.compile(r"(.*_)?(with|without|no|wear|wears|wearing|on|off|in|of|and)(_.*)?")
"""Words with which masks are what images show."""
_CONTROL_FOLDER = re.compile(
    r"controls?|control_?(images?|imgs?|nets?|data)|condition|conditions|conditioning(_(images?|imgs?|data|data_dir))?|cond|condlabels?"
    r"|canny|depth|depth_?maps?|openpose|lineart|softedge|hed|scribbles?|normal_?maps?"
)
_MASK_WORD = rf"masklabel|(?:(?:{_MASKED})[-_. ]?)*masks?(?:[-_. ]composite)?|msk|alpha|matte|trimap|seg|segm|segmentation|maske|masque|蒙版|遮罩|掩码|マスク"
_CONTROL_WORD = r"condlabel|cond|condition|conditioning|control(?:net)?|canny|depth(?:[-_. ]?map)?|openpose|lineart|softedge|hed|scribble|normal[-_. ]?map"
_COMPANIONS = {
    kind: (
        *(re.compile(rf"(?P<of>{of})(?:[-_. ]+[(\[]?|[(\[])(?:{behind})[)\]]?(?:[-_. ]?\d{{1,3}})?", re.DOTALL) for of in (".+?", ".+")),
        re.compile(rf"(?:{before})[-_. ]+(?P<of>.+)", re.DOTALL),
    )
    for kind, behind, before in (
        (FileKind.MASK, _MASK_WORD, r"masks?|alpha[-_. ]?mask"),
        (FileKind.CONTROL, _CONTROL_WORD, _CONTROL_WORD),
    )
}
_JOINED_MASK = re.compile(r"(?P<of>.+?)(?:masklabel|mask)", re.DOTALL)
_LABELS = {FileKind.MASK: re.compile(r".+[-_. ]masklabel", re.DOTALL), FileKind.CONTROL: re.compile(r".+[-_. ]condlabel", re.DOTALL)}
"""Names that always mean a mask or a control image, even where the image is missing."""
_MADE = re.compile(r"(xyz_)?grid-\d{4,}(-.*)?|.+\.preview", re.DOTALL)
"""Grids of the WebUI, and the preview beside a model."""
OWN_NOTES = "about.json"
"""Is among the class images that Finetune made, which are named by numbers of five digits."""
EMPTIED = ".table.bak"
"""How the file beside an image ends that says that its caption in a table was emptied."""
_OWN_IMAGE = re.compile(r"\d{5}\.png")
_OWN_TEMPORARY = re.compile(TEMPORARY, re.DOTALL)
_OF_TAKEOUT = re.compile(r"(?P<of>.+?\.\w{3,4})(\.s[a-z-]*)?(\(\d+\))?", re.DOTALL)
"""What Google Takeout calls the file that tells of an image, shortened as it likes."""


def readable_endings() -> frozenset[str]:
    """Endings of the kinds of images that are read, in lower case."""
    return _PICTURES | (_WITH_PLUGIN & known_to_pillow())


def known_to_pillow() -> frozenset[str]:
    """Endings that Pillow opens here, including those of its plugins."""
    Image.init()
    if ".avif" not in Image.registered_extensions():
        with contextlib.suppress(ImportError):
            import pillow_avif  # noqa: F401  # registers itself; the WebUI has it, newer Pillows need it no more
    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in Image.OPEN) - _NO_PICTURES


def name_key(name: str) -> str:
    """A name in the form in which systems compare it: without letter case, accents composed."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def is_system_folder(name: str) -> bool:
    """Whether a folder is hidden or a system's own; nothing is looked for in it."""
    plain = name.casefold()
    return plain.startswith(".") or plain in _SYSTEM_FOLDERS or plain.endswith(_SYSTEM_ENDINGS)


def kinds_of(paths: Iterable[PurePosixPath]) -> dict[PurePosixPath, FileKind]:
    """What each file of a folder is.

    Args:
        paths: of all its files, relative to it.
    """
    listing = _Listing(paths)
    return {path: listing.kind(path) for path in listing.paths}


def companion_of(path: PurePosixPath, pictures: Iterable[PurePosixPath]) -> PurePosixPath | None:
    """The image that a file belongs to by its name, beside it: as its caption, mask or control image; None where there is none."""
    beside = [picture for picture in pictures if picture.parent == path.parent and picture != path]
    for bases in ((name_key(path.stem),), tuple(companion_names(name_key(path.stem)))):
        for picture in beside:
            if name_key(picture.name) in bases:
                return picture
        for picture in beside:
            if name_key(picture.stem) in bases:
                return picture
    return None


def kohya_root(paths: Iterable[PurePosixPath]) -> tuple[str, str | None] | None:
    """The folder of training images and that of class images, or None, where a folder is laid out for kohya's trainers; else None."""
    tops = {_plain(path.parts[0]): path.parts[0] for path in paths if len(path.parts) > 1}
    subject = next((tops[name] for name in sorted(_SUBJECT_FOLDERS) if name in tops), None)
    classes = next((tops[name] for name in sorted(tops) if _CLASS_FOLDER.fullmatch(name) or name in _CLASS_BESIDE), None)
    if subject is None or not (classes or {"model", "log", "logs"} & tops.keys()):
        return None
    return subject, classes


class _Listing:
    """All files of a folder, for what a name means among its neighbours."""

    def __init__(self, paths: Iterable[PurePosixPath]) -> None:
        self.paths = tuple(paths)
        self._readable = readable_endings()
        self._pillow = known_to_pillow()
        self._kohya = kohya_root(self.paths) is not None
        self._weights = {path.parts[:depth] for path in self.paths if _ending(path) in _WEIGHTS for depth in range(1, len(path.parts))}
        self._instances = {
            path.parts[: depth - 1]
            for path in self.paths
            for depth in range(1, len(path.parts))
            if _plain(path.parts[depth - 1]) in _INSTANCE_FOLDERS
        }
        self._plain_pictures = [path for path in self.paths if self._looks_like_picture(path) and not self._left_by_folder(path)]
        outside = [path for path in self._plain_pictures if not companion_folder(path)]
        self._names = {key for path in outside for key in (name_key(path.stem), name_key(path.name))}
        self._beside: dict[PurePosixPath, set[str]] = defaultdict(set)
        for path in self.paths:
            if self._looks_like_picture(path) or _KIND_OF_ENDING.get(_ending(path)) is FileKind.OTHER_PICTURE:
                self._beside[path.parent] |= {name_key(path.stem), name_key(path.name)}
        self._mirrors = self._mirroring()
        self._ours = self._folders_of_ours()

    def kind(self, path: PurePosixPath) -> FileKind:
        """What a file is. The folder that it lies in counts before its name."""
        by_folder = self._left_by_folder(path)
        if by_folder is not None:
            return by_folder
        for folder, kind in self._mirrors.items():
            if folder in path.parents and (self._looks_like_picture(path) or _ending(path) in CAPTION_ENDINGS):
                return kind
        if self._looks_like_picture(path):
            return self._kind_of_picture(path)
        return self._kind_of_other(path)

    def _left_by_folder(self, path: PurePosixPath) -> FileKind | None:
        """What a file is for its folders, or for a name that no image has."""
        if _OWN_TEMPORARY.fullmatch(path.name) or path.name.endswith(EMPTIED):
            return FileKind.OWN
        if any(is_system_folder(part) for part in path.parts) or _LEFT_BEHIND.fullmatch(path.name.casefold()):
            return FileKind.LEFTOVER
        for depth, part in enumerate(path.parts[:-1], start=1):
            plain = _plain(part)
            if _CACHE_FOLDER.fullmatch(plain):
                return FileKind.CACHE
            if (
                plain in _RESULT_FOLDERS
                or _CHECKPOINT_FOLDER.fullmatch(plain)
                or (plain in _MODEL_FOLDERS and (self._kohya or path.parts[:depth] in self._weights))
            ):
                return FileKind.RESULT
            if _CLASS_FOLDER.fullmatch(plain) or (plain in _CLASS_BESIDE and path.parts[: depth - 1] in self._instances):
                return FileKind.CLASS_IMAGE
        return None

    def _looks_like_picture(self, path: PurePosixPath) -> bool:
        return _ending(path) in self._readable

    def _kind_of_picture(self, path: PurePosixPath) -> FileKind:
        stem = name_key(path.stem)
        beside = self._beside[path.parent]
        for kind in (FileKind.MASK, FileKind.CONTROL):
            if _LABELS[kind].fullmatch(stem) or any(base in beside for base in companion_names(stem, kind)):
                return kind
        return FileKind.RESULT if _MADE.fullmatch(stem) else FileKind.PICTURE

    def _kind_of_other(self, path: PurePosixPath) -> FileKind:
        ending, stem = _ending(path), name_key(path.stem)
        if ending in CAPTION_ENDINGS:
            return FileKind.CAPTION
        if path.name == OWN_NOTES and path.parent in self._ours:
            return FileKind.OWN
        of_takeout = _OF_TAKEOUT.fullmatch(stem) if ending == ".json" else None
        named = {stem, of_takeout["of"]} if of_takeout else {stem}
        tells_of_picture = ending in _SIDECARS and not named.isdisjoint(self._beside[path.parent])
        if tells_of_picture or (ending == ".json" and _CAPTION_TABLES.fullmatch(stem)):
            return FileKind.OTHER_CAPTION
        known = _KIND_OF_ENDING.get(ending)
        return known or (FileKind.OTHER_PICTURE if ending in self._pillow else FileKind.UNKNOWN)

    def _mirroring(self) -> dict[PurePosixPath, FileKind]:
        """Folders named for masks, control images or copies whose files have the names of images elsewhere."""
        inside: dict[Companions, list[PurePosixPath]] = defaultdict(list)
        for path in self._plain_pictures:
            if companions := companion_folder(path):
                inside[companions].append(path)
        mirrors = {}
        for companions, files in inside.items():
            same = [self._mirrors_a_picture(path, companions.kind) for path in files]
            if any(same) if companions.sure else all(same):
                mirrors[companions.folder] = companions.kind
        return mirrors

    def _folders_of_ours(self) -> set[PurePosixPath]:
        """Folders that hold class images as they are made here, and no others."""
        own: dict[PurePosixPath, bool] = {}
        for path in self.paths:
            if self._looks_like_picture(path):
                own[path.parent] = own.get(path.parent, True) and _OWN_IMAGE.fullmatch(path.name) is not None
        return {folder for folder, all_own in own.items() if all_own}

    def _mirrors_a_picture(self, path: PurePosixPath, kind: FileKind) -> bool:
        stem = name_key(path.stem)
        return stem in self._names or name_key(path.name) in self._names or any(base in self._names for base in companion_names(stem, kind))


_WEIGHTS = frozenset({".safetensors", ".ckpt", ".pt", ".pth"})


def unclear_folders(paths: Mapping[PurePosixPath, FileKind]) -> list[PurePosixPath]:
    """Folders named as those of masks and the like whose images are training images, for no other image has their names."""
    folders = (companion_folder(path) for path, kind in paths.items() if kind is FileKind.PICTURE)
    return sorted({companions.folder for companions in folders if companions and companions.kind in (FileKind.MASK, FileKind.CONTROL)})


class Companions(NamedTuple):
    """A folder that is named as those of masks, control images or copies are.

    Attributes:
        sure: one image's name in it tells that it is; else all of them have to be those of images elsewhere.
    """

    folder: PurePosixPath
    kind: FileKind
    sure: bool


def companion_folder(path: PurePosixPath) -> Companions | None:
    """The first of a file's folders that is named as those of masks, control images or copies are."""
    for depth, part in enumerate(path.parts[:-1], start=1):
        plain = _plain(part)
        folder = PurePosixPath(*path.parts[:depth])
        if _MASK_FOLDER.fullmatch(plain):
            return Companions(folder, FileKind.MASK, sure=True)
        if _CONTROL_FOLDER.fullmatch(plain):
            return Companions(folder, FileKind.CONTROL, sure=True)
        if plain in _COPY_FOLDERS:
            return Companions(folder, FileKind.COPY, sure=False)
        if _MASK_FOLDER_OF.fullmatch(plain) and not _WORN.fullmatch(plain):
            return Companions(folder, FileKind.MASK, sure=False)
    return None


def companion_names(stem: str, kind: FileKind | None = None) -> Iterator[str]:
    """Names of the images to which a file of this stem may belong as mask or control image."""
    for each in (FileKind.MASK, FileKind.CONTROL):
        if kind in (None, each):
            yield from (match["of"] for pattern in _COMPANIONS[each] if (match := pattern.fullmatch(stem)))
    if kind in (None, FileKind.MASK) and (match := _JOINED_MASK.fullmatch(stem)):
        yield match["of"]


def _ending(path: PurePosixPath) -> str:
    return path.suffix.lower()


def _plain(folder: str) -> str:
    """A folder's name without letter case, with "_" between its words."""
    return re.sub(r"[-_. ]+", "_", folder.casefold()).strip("_")
