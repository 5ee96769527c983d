"""The images as the model will see them: crop, size, caption and tokens of each, and what a person should know of them before training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw

from lib_finetune.assembly import automatic_settings, builder, dataset
from lib_finetune.assembly.caption_templates import template_notes
from lib_finetune.assembly.method_traits import teaches_word
from lib_finetune.assembly.subjects import subject_lines, subjects_of
from lib_finetune.config.codec import all_leaves
from lib_finetune.config.fields import replaced
from lib_finetune.config.validation import validate
from lib_finetune.data import caption_syntax
from lib_finetune.data.images import UnreadablePictureError, kept_box, load_rgb, lost_share
from lib_finetune.data.look import ImageLook, Remembered, alike, common_traits, look_at
from lib_finetune.data.masks import decoded, shows_nothing
from lib_finetune.data.plan_report import bucket_counts, crop_advice, first_positions, is_much_cut, masked, much_cut, templated
from lib_finetune.data.scan import examined
from lib_finetune.errors import InputError, Problem
from lib_finetune.preflight import teaching
from lib_finetune.preflight.problems import mask_problem
from lib_finetune.text.learned import count_tokens
from lib_finetune.text.prompts import CHUNK

if TYPE_CHECKING:
    from lib_finetune.assembly.dataset import Dataset
    from lib_finetune.config.settings import Settings
    from lib_finetune.data.plan import Plan
    from lib_finetune.data.scan import Picture, Report
    from lib_finetune.ports.lease import TextTools

THUMBNAIL_PX = 256
_FRAME = (255, 140, 0)
_SHADE = 0.4
_LEFT_OUT = (200, 0, 80)
_TINT = 0.55
"""Colour that lies on what a mask leaves out, and how thick."""
_ENLARGED = 1.05
_LISTED = 100
_COUNTS = 20_000
_CONCERNS = ("method", "data.", "training.", "embedding.")


@dataclass(frozen=True)
class Flag:
    """Something to look at.

    Attributes:
        kind: "duplicate", "near_duplicate", "blurred", "small", "cropped", "rotated", "transparent", "animated", "profile_unread", "gain_map",
            "coding", "shared_caption", "mask_cut_off", "cut_off" or "long_caption".
        message: it in a sentence.
        others: names of the images that it is about, too.
    """

    kind: str
    message: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class PictureView:
    """An image in training.

    Attributes:
        path: the file.
        name: relative to the folder, with "/".
        width_px, height_px: of the upright image.
        crop: what is kept: left, top, right, bottom in px of the upright image.
        crop_varies: every step keeps another part; ``crop`` is that of the first one.
        bucket: (width, height) in px that the kept part is brought to.
        repeats: how often it comes in an epoch.
        held_out: it is not trained on but measured with.
        caption: as the model reads it, before tags are shuffled or left out.
        caption_varies: another template, line or part of a choice comes every time; ``caption`` is the first.
        caption_meanings: what is done with the signs in its text, such as weights.
        tokens: of the caption, the longest where it varies, by the host's tokenizer; the word of an embedding counts its vectors.
        over_chunk: it is longer than the 75 tokens that are read together, and continues in another row.
        cut_off: it is longer than data.max_tokens; the rest is not read.
        caption_file: where its own text comes from, or None.
        caption_text: that text, or None.
        flags: what to look at.
        mask: the file whose white parts are what is taught, the image itself where its transparency is the mask, or None.
    """

    path: str
    name: str
    width_px: int
    height_px: int
    crop: tuple[int, int, int, int]
    crop_varies: bool
    bucket: tuple[int, int]
    repeats: int
    held_out: bool
    caption: str
    caption_varies: bool
    caption_meanings: tuple[str, ...]
    tokens: int
    over_chunk: bool
    cut_off: bool
    caption_file: str | None
    caption_text: str | None
    flags: tuple[Flag, ...]
    mask: str | None = None


@dataclass(frozen=True)
class Bucket:
    """A size in training, in px, and how many images have it."""

    width_px: int
    height_px: int
    pictures: int


@dataclass(frozen=True)
class FileGroup:
    """Files of one kind that are no training images.

    Attributes:
        kind: as `file_kinds.FileKind` names it.
        count: how many.
        paths: of the files, the first hundred.
        message: it in a sentence, with what was done.
    """

    kind: str
    count: int
    paths: tuple[str, ...]
    message: str


@dataclass(frozen=True)
class DatasetView:
    """A folder of images.

    Attributes:
        folder: of the images.
        images: sorted by name.
        buckets: sizes of those that are trained on.
        captions: images with a caption file.
        views: images an epoch shows, repeats counted.
        batches: batches that they come in.
        sentence: how often each image is seen.
        broken, unread_captions: (path, reason): images that cannot be read, caption files that are no text.
        orphans: caption files without an image.
        doubles: caption files that give way to another of the same image.
        other_kinds: images of kinds that are not read.
        never: images whose folder asks for 0 repeats.
        groups: all other files that lie there, by kind.
        notes: what should be known of all images together: warnings, how the folder is laid out and its captions are read, caption files that
            several images share, what is done to the images.
        kohya: where the folder is laid out for kohya's trainers, its folders of training images and, if there is one, of class images.
        problems: (setting, message): what keeps the settings from being used as they are; the view leaves those out.
        subjects: what calls each of the subjects, trigger and class word; one, unless folders have words of their own.
        subject_lines: where there are several, each with its trigger, its class and its number of images.
    """

    folder: str
    pictures: tuple[PictureView, ...]
    buckets: tuple[Bucket, ...]
    captions: int
    views: int
    batches: int
    sentence: str
    broken: tuple[tuple[str, str], ...]
    unread_captions: tuple[tuple[str, str], ...]
    orphans: tuple[str, ...]
    doubles: tuple[str, ...]
    other_kinds: tuple[str, ...]
    never: tuple[str, ...]
    groups: tuple[FileGroup, ...]
    notes: tuple[str, ...]
    kohya: tuple[str, str | None] | None
    problems: tuple[tuple[str, str], ...]
    subjects: tuple[str, ...] = ()
    subject_lines: tuple[str, ...] = ()


class Looks:
    """What was seen of images, kept while the program runs, so that a second view of a folder is fast."""

    def __init__(self, face: Callable[[Image.Image], tuple[float, float] | None] | None = None) -> None:
        """
        Args:
            face: `HostCaptions.face`; without it a crop around the face is one around what stands out.
        """
        self.examined = Remembered(examined)
        self.faces = Remembered(lambda path: examined(path, face))
        self.look = Remembered(look_at)
        self._tokens: dict[tuple[str, str, int], int] = {}
        self._tokenizer: Any = None

    def tokens(self, tokenizer: Any, caption: str, word: str, vectors: int) -> int:
        """As `count_tokens`; counted again only for another tokenizer."""
        if self._tokenizer is not tokenizer or len(self._tokens) > _COUNTS:
            self._tokenizer, self._tokens = tokenizer, {}
        key = (caption, word, vectors)
        counts = self._tokens
        if key not in counts:
            counts[key] = count_tokens(tokenizer, caption, word, vectors)
        return counts[key]


def view(settings: Settings, tools: TextTools, looks: Looks) -> DatasetView:
    """Look at the images of the settings; neither name nor trigger need be there yet.

    Args:
        tools: the host's.
        looks: kept by the caller from view to view.

    Raises:
        InputError: the folder or a setting of the images will not do.
    """
    problems: list[Problem] = []
    images, settings = _usable(_sound(settings), looks, problems)
    chosen = automatic_settings.resolved(settings, builder.data_plan(settings, images).epoch, tools.clip_skip)[0]
    plan = builder.data_plan(chosen, images, tools)
    problems += [mask_problem(path, reason) for path, reason in images.subject.unusable_masks]
    held = builder.plan_of_held(plan, images.held) if images.held else None
    seen = [looks.look(picture.path) for picture in images.subject.pictures]
    flags = _flags(images.subject, seen)
    placed = {**_placed(plan), **(_placed(held) if held else {})}
    held_out = {picture.path for picture in images.held}

    def count(caption: str, word: str) -> int:
        return looks.tokens(tools.tokenizer, caption, word, chosen.embedding.vectors)

    views = tuple(
        _view(picture, *placed[picture.path], chosen, count, own, held_out=picture.path in held_out)
        for picture, own in zip(images.subject.pictures, flags, strict=True)
    )
    notes = (
        *teaching.warnings(chosen, images),
        *template_notes(chosen, dataset.written_templates(chosen)),
        *_notes(images.subject, plan),
        *_colours(seen),
        *(_common(seen) if chosen.data.kind != "style" else ()),
        *_cut(plan),
        *masked(plan),
    )
    whole = _whole(images.subject, views, plan, automatic_settings.arithmetic(chosen, plan), notes, problems)
    subjects = subjects_of(chosen, images)
    words = tuple(subject.words for subject in subjects)
    return dataclasses.replace(whole, subjects=words, subject_lines=tuple(subject_lines(subjects)))


def _notes(report: Report, plan: Plan) -> list[str]:
    signs = caption_syntax.sentences(picture.caption for picture in report.pictures)
    return [*report.notes, *templated(plan), *signs, *(shared.line() for shared in report.shared_captions)]


def _sound(settings: Settings) -> Settings:
    """The settings with defaults for faulty ones that the images do not depend on.

    Raises:
        InputError: the images depend on a faulty one.
    """
    try:
        validate(settings, but=("name",))
    except InputError as error:
        if problems := [problem for problem in error.problems if problem.field.startswith(_CONCERNS)]:
            raise InputError(problems) from error
        for problem in error.problems:
            settings = replaced(settings, problem.field, all_leaves()[problem.field].default)
    return settings


def _usable(settings: Settings, looks: Looks, problems: list[Problem]) -> tuple[Dataset, Settings]:
    """The images, and the settings without what would keep them from being shown."""
    settings = replaced(settings, "data.class_count", 0)
    for path, without in (("data.class_images", ""), ("data.held_out", 0), ("embedding.template", "")):
        try:
            return _readable(settings, looks), replaced(settings, "data.class_images", "")
        except InputError as error:
            if all(problem.field != path for problem in error.problems):
                continue
            problems += [problem for problem in error.problems if problem.field == path]
            settings = replaced(settings, path, without)
    return _readable(settings, looks), replaced(settings, "data.class_images", "")


def _readable(settings: Settings, looks: Looks) -> Dataset:
    images = dataset.find(settings, looks.faces if settings.data.crop == "face" else looks.examined, classes_too=False)
    builder.data_plan(settings, images)  # reads the templates
    return images


Place = tuple[tuple[int, int], tuple[float, float], list[str], bool]
"""Bucket, position, captions that come by turns, whether the crop varies."""


def _placed(plan: Plan) -> dict[Path, Place]:
    """Where each of a plan's images ends up."""
    places = {}
    for picture, size, position in zip(plan.pictures, plan.sizes, first_positions(plan), strict=True):
        places[picture.path] = (size, position, plan.captioning.every(picture), plan.cropping.varies(picture, size))
    return places


def _view(
    picture: Picture,
    bucket: tuple[int, int],
    position: tuple[float, float],
    captions: list[str],
    crop_varies: bool,
    settings: Settings,
    count: Callable[[str, str], int],
    flags: list[Flag],
    *,
    held_out: bool,
) -> PictureView:
    left, top, right, bottom = kept_box(picture.width_px, picture.height_px, bucket, position)
    word = settings.name.strip() if teaches_word(settings) else ""
    tokens = max(count(caption, word) for caption in captions)
    limit = settings.data.max_tokens
    return PictureView(
        path=str(picture.path),
        name=picture.name,
        width_px=picture.width_px,
        height_px=picture.height_px,
        crop=(round(left), round(top), round(right), round(bottom)),
        crop_varies=crop_varies,
        bucket=bucket,
        repeats=picture.repeats,
        held_out=held_out,
        caption=captions[0],
        caption_varies=len(captions) > 1,
        caption_meanings=tuple(caption_syntax.meanings(picture.caption)),
        tokens=tokens,
        over_chunk=tokens > CHUNK,
        cut_off=tokens > limit,
        caption_file=str(picture.caption_file) if picture.caption_file else None,
        caption_text=picture.caption,
        flags=(
            *_small(picture, bucket),
            *_cropped(picture, bucket, settings),
            *_masked(picture, bucket, position),
            *flags,
            *_long(tokens, limit),
        ),
        mask=str(picture.mask.path) if picture.mask else None,
    )


def _small(picture: Picture, bucket: tuple[int, int]) -> list[Flag]:
    factor = max(bucket[0] / picture.width_px, bucket[1] / picture.height_px)
    if factor < _ENLARGED:
        return []
    return [Flag("small", f"It is enlarged {factor:.1f} times to {bucket[0]}×{bucket[1]}; a larger image gives sharper results.")]


def _cropped(picture: Picture, bucket: tuple[int, int], settings: Settings) -> list[Flag]:
    if not is_much_cut(picture, bucket):
        return []
    share = lost_share(picture.width_px, picture.height_px, bucket)
    advice = crop_advice(settings.data.crop, buckets=settings.data.buckets)
    return [Flag("cropped", f"{share:.0%} of it is cut off. {advice}")]


def _masked(picture: Picture, bucket: tuple[int, int], position: tuple[float, float]) -> list[Flag]:
    trained = kept_box(picture.width_px, picture.height_px, bucket, position)
    if picture.mask is None or not shows_nothing(picture.mask, trained, (picture.width_px, picture.height_px)):
        return []
    return [Flag("mask_cut_off", "The part that its mask shows is cut off. Set data.crop to focal, or crop it yourself.")]


def _cut(plan: Plan) -> list[str]:
    cut = much_cut(plan)
    if not cut:
        return []
    advice = crop_advice(plan.cropping.crop, buckets=plan.buckets)
    return [f"A third or more is cut off of {len(cut)}: {_named([picture.name for picture in cut])}. {advice}"]


def _colours(looks: Sequence[ImageLook | None]) -> list[str]:
    """From which colour profiles images are brought to sRGB."""
    names = [look.marks.profile for look in looks if look and look.marks.profile]
    counts = ", ".join(f"{names.count(name)} × {name}" for name in dict.fromkeys(names))
    return [f"Colours are brought to sRGB from what the files declare: {counts}."] if names else []


def _common(looks: Sequence[ImageLook | None]) -> list[str]:
    """What all images share is learned with the subject, unless captions name it."""
    return [
        f"All images look alike in their {trait}, judged by small statistics of colours alone. Vary them, or name everything but the subject in the "
        "captions: what is named there is learned less as a part of it."
        for trait in common_traits(looks)
    ]


def _long(tokens: int, limit: int) -> list[Flag]:
    if tokens > limit:
        return [Flag("cut_off", f"The caption has {tokens} tokens; {limit} are read and the rest is cut off.")]
    if tokens > CHUNK:
        return [Flag("long_caption", f"The caption has {tokens} tokens, more than the {CHUNK} that are read together.")]
    return []


def _flags(report: Report, looks: Sequence[ImageLook | None]) -> list[list[Flag]]:
    """What the files themselves tell, by image."""
    flags_of_pictures, pictures = [], report.pictures
    readers = {shared.file: shared.pictures for shared in report.shared_captions}
    near = alike(looks)
    for place, (picture, look) in enumerate(zip(pictures, looks, strict=True)):
        same = [other.name for other in pictures if other.content == picture.content and other is not picture]
        close = [pictures[other].name for other in near[place] if pictures[other].name not in same]
        flags = [Flag("duplicate", f"It is the same file as {_named(same)}; it counts more than once.", tuple(same))] if same else []
        flags += [Flag("near_duplicate", f"It is nearly the same image as {_named(close)}.", tuple(close))] if close else []
        if picture.caption_file in readers:
            others = tuple(name for name in readers[picture.caption_file] if name != picture.name)
            text = f"Its caption file is that of {_named(others)} too; a text that is typed here goes into a file of its own."
            flags.append(Flag("shared_caption", text, others))
        flags_of_pictures.append(flags + (_of_file(look) if look else []))
    return flags_of_pictures


def _of_file(look: ImageLook) -> list[Flag]:
    unread = f"What it declares of its colours cannot be followed ({look.marks.profile_unread}); they are taken as sRGB."
    coding = (
        f"Its numbers are coded for an HDR or wide-gamut screen ({look.marks.coding}); they are taken as sRGB, which changes its colours."
    )
    source = (
        ("blurred", look.blurred, "Nothing in it is sharp; the result would learn the blur."),
        ("rotated", look.marks.rotated, "It is stored rotated or mirrored and is turned upright, as its metadata says."),
        ("transparent", look.marks.transparent, "It has transparent parts; they become white."),
        ("animated", look.marks.animated, "It is animated; only its first frame is used."),
        ("profile_unread", bool(look.marks.profile_unread), unread),
        ("gain_map", look.marks.gain_map, "It has an HDR gain map; it is trained on as it looks on an ordinary screen."),
        ("coding", bool(look.marks.coding), coding),
    )
    return [Flag(kind, message) for kind, holds, message in source if holds]


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _whole(
    report: Report, views: tuple[PictureView, ...], plan: Plan, sentence: str, notes: tuple[str, ...], problems: Sequence[Problem]
) -> DatasetView:
    def reasons(entries: Sequence[tuple[Path, str]]) -> tuple[tuple[str, str], ...]:
        return tuple((str(path), reason) for path, reason in entries)

    def paths(entries: Sequence[Path]) -> tuple[str, ...]:
        return tuple(map(str, entries))

    return DatasetView(
        folder=str(report.folder),
        pictures=views,
        buckets=tuple(Bucket(width, height, count) for (width, height), count in bucket_counts(plan).items()),
        captions=sum(picture.caption_file is not None for picture in report.pictures),
        views=plan.epoch.views,
        batches=plan.epoch.batches,
        sentence=sentence,
        broken=reasons(report.broken),
        unread_captions=reasons(report.unread_captions),
        orphans=paths(report.orphans),
        doubles=paths(report.doubles),
        other_kinds=paths(report.other_kinds),
        never=paths(report.never),
        groups=tuple(
            FileGroup(group.kind.name.lower(), len(group.paths), paths(group.paths[:_LISTED]), group.line(report.folder))
            for group in report.groups
        ),
        notes=notes,
        kohya=(str(report.kohya[0]), str(report.kohya[1]) if report.kohya[1] else None) if report.kohya else None,
        problems=tuple((problem.field, problem.message) for problem in problems),
    )


def thumbnail(picture: PictureView, side_px: int = THUMBNAIL_PX) -> Image.Image:
    """A small upright image with the part that is trained on framed, and what is cut off in shade.

    Raises:
        InputError: the file is gone or broken.
    """
    image = load_rgb(Path(picture.path))
    scale = min(1.0, side_px / max(image.size))
    small = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.BILINEAR)
    if picture.mask:
        small = _tinted(small, picture)
    left, top, right, bottom = (round(edge * scale) for edge in picture.crop)
    box = (left, top, max(left + 1, min(right, small.width)), max(top + 1, min(bottom, small.height)))
    framed = small.point(lambda level: int(level * _SHADE))
    framed.paste(small.crop(box), box[:2])
    ImageDraw.Draw(framed).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline=_FRAME, width=2)
    return framed


def _tinted(small: Image.Image, picture: PictureView) -> Image.Image:
    """The image with what its mask leaves out in a tint; as it is where the mask cannot be read now."""
    assert picture.mask is not None
    try:
        mask = decoded(Path(picture.mask), alpha=picture.mask == picture.path)[0].resize(small.size, Image.Resampling.BILINEAR)
    except (OSError, UnreadablePictureError):
        return small
    return Image.composite(small, Image.blend(small, Image.new("RGB", small.size, _LEFT_OUT), _TINT), mask)
