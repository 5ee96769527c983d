"""The plan of a run: which pictures each step sees, cut, mirrored and captioned how; a function of seed and step alone."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property

from lib_finetune.data import captions
from lib_finetune.data.buckets import Size, bucket_sizes, choose
from lib_finetune.data.images import leftover_px, position_around
from lib_finetune.data.order import Order, Walk
from lib_finetune.data.scan import Picture

CROPS = ("centre", "random", "focal", "face")
_RANDOM_POSITIONS = (0.0, 0.25, 0.5, 0.75, 1.0)  # few, so that the encoded pictures to be cached stay few


@dataclass(frozen=True)
class Variant:
    """A picture as it is encoded and cached.

    Attributes:
        picture: index into the plan's pictures, or its class pictures if ``prior``.
        prior: whether it is a class picture (prior preservation).
        size: (width, height) in px.
        position: which part is kept, as `images.fit` takes it.
        flip: mirrored left to right.
    """

    picture: int
    prior: bool
    size: Size
    position: tuple[float, float]
    flip: bool


@dataclass(frozen=True)
class Item:
    """One picture of a batch; fields as in `Variant`, and the caption of this very step."""

    picture: int
    size: Size
    position: tuple[float, float]
    flip: bool
    caption: str
    prior: bool

    @property
    def variant(self) -> Variant:
        """What is encoded of it."""
        return Variant(self.picture, self.prior, self.size, self.position, self.flip)


@dataclass(frozen=True, eq=False)
class Plan:
    """Items of any micro step (one batch; several make an optimizer step where gradients are accumulated).

    Each batch holds pictures of one size. Every picture comes exactly ``repeats`` times an epoch; the last batch of a
    size may be smaller. Where there are class pictures, n of them follow the n pictures of each batch, cut to the same size
    (prior preservation, Ruiz et al., DreamBooth, arXiv 2208.12242). Their captions are never varied.

    Attributes:
        pictures: what is taught; at least one.
        class_pictures: of the class in general; may be empty.
        resolution: px; see `buckets.bucket_sizes`.
        buckets: False cuts all to the square.
        batch: pictures in a batch, class pictures not counted.
        seed: the same seed gives the same items.
        crop: "centre", "random" (one of five places along the side that is too long) or "focal" or "face" (around `Picture.focus`).
        flip: mirror at random.
        trigger, class_word, template: see `captions.final_caption`.
        class_template: the same of class pictures; None takes ``template``.
        templates: where there are some, a picture without a text file gets one of them, another each time; see `templates`.
        templates_win: the text files give way to them.
        shuffle_tags, keep_tags, tag_dropout, caption_dropout: see `captions.compose`.

    Raises:
        ValueError: no picture, an unknown crop, or a batch or resolution that is too small.
    """

    pictures: Sequence[Picture]
    class_pictures: Sequence[Picture] = ()
    _: KW_ONLY
    resolution: int = 512
    buckets: bool = True
    batch: int = 1
    seed: int = 42
    crop: str = "centre"
    flip: bool = False
    trigger: str = ""
    class_word: str = ""
    template: str = "a photo of {trigger} {class}"
    class_template: str | None = None
    templates: Sequence[str] = ()
    templates_win: bool = False
    shuffle_tags: bool = False
    keep_tags: int = 1
    tag_dropout: float = 0.0
    caption_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.crop not in CROPS:
            raise ValueError(f"crop {self.crop!r} is none of {', '.join(CROPS)}")
        object.__setattr__(self, "pictures", tuple(self.pictures))
        object.__setattr__(self, "class_pictures", tuple(self.class_pictures))
        _ = self._order  # refuses what cannot be put in order now and not at the first step

    @property
    def epoch_steps(self) -> int:
        """Micro steps in one epoch."""
        return self._order.epoch_steps

    @cached_property
    def sizes(self) -> tuple[Size, ...]:
        """Each picture's size in training, (width, height) in px."""
        offered = bucket_sizes(self.resolution, buckets=self.buckets)
        shapes = {(picture.width_px, picture.height_px) for picture in self.pictures}
        chosen = {shape: choose(*shape, offered) for shape in shapes}  # most pictures share a few shapes
        return tuple(chosen[picture.width_px, picture.height_px] for picture in self.pictures)

    @cached_property
    def captions(self) -> tuple[str, ...]:
        """Each picture's caption before it is varied; the first of the templates where they are used."""
        return tuple(captions.with_trigger(text, self.trigger) for text in self._plain_captions)

    @cached_property
    def class_captions(self) -> tuple[str, ...]:
        """Each class picture's caption: its file's, else the template with the class word alone."""
        template = self.template if self.class_template is None else self.class_template
        return tuple(captions.final_caption(picture, template, "", self.class_word) for picture in self.class_pictures)

    @property
    def triggered(self) -> int:
        """How many captions got the trigger put in front, since it was not in them."""
        return sum(caption != plain for caption, plain in zip(self.captions, self._plain_captions, strict=True))

    def items(self, micro_step: int) -> list[Item]:
        """The items of one micro step, counted from 0 over all epochs: pictures first, then class pictures."""
        items = []
        for place, variant in enumerate(self._variants(micro_step)):
            caption = self.class_captions[variant.picture] if variant.prior else self._caption(variant.picture, micro_step, place)
            items.append(Item(variant.picture, variant.size, variant.position, variant.flip, caption, variant.prior))
        return items

    def variants(self, first: int, last: int) -> Iterator[Variant]:
        """Each different variant that the micro steps ``first`` to ``last`` - 1 need, in the order of need.

        Ends as soon as every variant that can ever come has come, however many steps are left.
        """
        seen: set[Variant] = set()
        possible = self._possible()
        for micro_step in range(first, last):
            for variant in self._variants(micro_step):
                if variant not in seen:
                    seen.add(variant)
                    yield variant
            if len(seen) >= possible:
                return

    def bucket_counts(self) -> dict[Size, int]:
        """How many pictures each size has, repeats not counted; sorted by size."""
        return {size: self.sizes.count(size) for size in sorted(set(self.sizes))}

    def lines(self) -> list[str]:
        """What the person should know of the plan, in plain words."""
        sizes = ", ".join(f"{count} at {width}×{height}" for (width, height), count in self.bucket_counts().items())
        lines = [f"Sizes in training: {sizes} px."]
        if self.triggered:
            lines.append(f'The trigger word "{self.trigger}" is put in front of {self.triggered} of {len(self.captions)} captions.')
        small = [picture.name for picture, size in zip(self.pictures, self.sizes, strict=True) if _smaller(picture, size)]
        if small:
            lines.append(f"{len(small)} smaller than in training, and enlarged: {_named(small)}. Larger pictures give sharper results.")
        most = max(set(self.sizes), key=self.sizes.count)
        small = [picture.name for picture in self.class_pictures if _smaller(picture, most)]
        if small:
            lines.append(
                f"{len(small)} of {len(self.class_pictures)} class pictures are smaller than in training, and enlarged: {_named(small)}."
            )
        return lines

    @cached_property
    def _plain_captions(self) -> list[str]:
        return [
            self._filled[0]
            if self.uses_templates(picture)
            else captions.plain_caption(picture, self.template, self.trigger, self.class_word)
            for picture in self.pictures
        ]

    @cached_property
    def _filled(self) -> list[str]:
        return [captions.template_caption(template, self.trigger, self.class_word) for template in self.templates]

    def uses_templates(self, picture: Picture) -> bool:
        """Whether its caption is one of the templates, another each time."""
        return bool(self.templates) and (self.templates_win or picture.caption is None)

    @cached_property
    def _order(self) -> Order:
        groups: dict[Size, list[int]] = {size: [] for size in sorted(set(self.sizes))}
        for index in _repeated(self.pictures):
            groups[self.sizes[index]].append(index)
        return Order(list(groups.values()), self.batch, self.seed)

    @cached_property
    def _walk(self) -> Walk:
        return Walk(_repeated(self.class_pictures), self.seed)

    def _variants(self, micro_step: int) -> list[Variant]:
        entries = self._order.batch(micro_step)
        size = self.sizes[entries[0]]
        variants = [self._variant(index, False, size, micro_step, place) for place, index in enumerate(entries)]
        if self.class_pictures:
            before, count = self._order.before(micro_step), len(entries)
            variants += [self._variant(self._walk.at(before + i), True, size, micro_step, count + i) for i in range(count)]
        return variants

    def _variant(self, index: int, prior: bool, size: Size, micro_step: int, place: int) -> Variant:
        picture = (self.class_pictures if prior else self.pictures)[index]
        position, flip = (0.5, 0.5), False
        if self.crop == "random" or self.flip:
            rng = random.Random(f"{self.seed}/{micro_step}/{place}/crop")
            chance, flip = rng.choice(_RANDOM_POSITIONS), self.flip and rng.random() < 0.5
            if self.crop == "random":
                x, y = leftover_px(picture.width_px, picture.height_px, size)
                position = (chance if x >= 1.0 else 0.5, chance if y >= 1.0 else 0.5)
        if self.crop in ("focal", "face"):
            position = position_around(picture.focus, picture.width_px, picture.height_px, size)
        return Variant(index, prior, size, (round(position[0], 4), round(position[1], 4)), flip)

    def _caption(self, index: int, micro_step: int, place: int) -> str:
        caption = self.captions[index]
        if self.uses_templates(self.pictures[index]):
            caption = random.Random(f"{self.seed}/{micro_step}/{place}/template").choice(self._filled)
        return captions.compose(
            caption,
            trigger=self.trigger,
            keep_tags=self.keep_tags,
            shuffle=self.shuffle_tags,
            tag_dropout=self.tag_dropout,
            caption_dropout=self.caption_dropout,
            rng=random.Random(f"{self.seed}/{micro_step}/{place}/caption"),
        )

    def first_positions(self) -> list[tuple[float, float]]:
        """Which part of each picture is kept when it first comes, as `images.fit` takes it."""
        positions: dict[int, tuple[float, float]] = {}
        for variant in self.variants(0, self.epoch_steps):
            if not variant.prior:
                positions.setdefault(variant.picture, variant.position)
        return [positions[index] for index in range(len(self.pictures))]

    def _possible(self) -> int:
        """How many variants there are in all."""
        subject = sum(self._ways(picture, size) for picture, size in zip(self.pictures, self.sizes, strict=True))
        return subject + sum(self._ways(picture, size) for size in set(self.sizes) for picture in self.class_pictures)

    def _ways(self, picture: Picture, size: Size) -> int:
        loose = max(leftover_px(picture.width_px, picture.height_px, size)) >= 1.0
        return (len(_RANDOM_POSITIONS) if self.crop == "random" and loose else 1) * (2 if self.flip else 1)


def _smaller(picture: Picture, size: Size) -> bool:
    return picture.width_px < size[0] or picture.height_px < size[1]


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def _repeated(pictures: Sequence[Picture]) -> list[int]:
    return [index for index, picture in enumerate(pictures) for _ in range(picture.repeats)]
