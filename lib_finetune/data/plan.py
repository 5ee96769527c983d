"""The plan: which picture is shown at which step, how it is cut, and with which caption; a pure function of seed and step."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from lib_finetune.data.buckets import choose
from lib_finetune.data.captions import compose, final_caption
from lib_finetune.data.images import focal_position, load_rgb
from lib_finetune.data.scan import Picture

_RANDOM_POSITIONS = (0.0, 0.25, 0.5, 0.75, 1.0)  # few, so that the cache of encoded crops stays bounded


@dataclass(frozen=True)
class Variant:
    """A picture cut one way: what is encoded and cached.

    Attributes:
        prior: it is a class picture.
        position: part of the left-over that is kept, 0 … 1.
    """

    picture: int
    prior: bool
    size: tuple[int, int]
    position: tuple[float, float]
    flip: bool


@dataclass(frozen=True)
class Item:
    """One showing of a picture."""

    variant: Variant
    caption: str


@dataclass(frozen=True)
class CaptionOptions:
    """How captions are made; see `data.captions`."""

    template: str = "a photo of {trigger} {class}"
    trigger: str = ""
    class_word: str = ""
    shuffle: bool = False
    keep_tags: int = 1
    tag_dropout: float = 0.0
    caption_dropout: float = 0.0


@dataclass
class Plan:
    """Order, crops and captions of a training.

    Attributes:
        pictures, class_pictures: from `data.scan`.
        sizes: the buckets.
        batch: pictures of the subject in a micro step; as many class pictures join them when there are any.
        crop: "centre", "random" or "focal".
    """

    pictures: Sequence[Picture]
    class_pictures: Sequence[Picture]
    sizes: Sequence[tuple[int, int]]
    batch: int
    seed: int
    crop: str = "centre"
    flip: bool = False
    captions: CaptionOptions = field(default_factory=CaptionOptions)
    _epoch: tuple[int, list[list[int]]] = field(default=(-1, []), init=False)
    _focus: dict[Variant, tuple[float, float]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._buckets = [choose(picture.width_px, picture.height_px, self.sizes) for picture in self.pictures]
        counts: dict[tuple[int, int], int] = {}
        for bucket, picture in zip(self._buckets, self.pictures):
            counts[bucket] = counts.get(bucket, 0) + picture.repeats
        self.epoch_steps = sum(-(-count // self.batch) for count in counts.values())

    def sizes_of_pictures(self) -> list[tuple[int, int]]:
        """The bucket of every picture of the subject."""
        return list(self._buckets)

    def items(self, micro_step: int) -> list[Item]:
        """What micro step ``micro_step`` (0-based) shows; class pictures behind the subject's."""
        epoch, place = divmod(micro_step, self.epoch_steps)
        chosen = self._order(epoch)[place]
        rng = random.Random(f"items/{self.seed}/{micro_step}")
        size = self._buckets[chosen[0]]
        items = [self._item(index, False, size, rng) for index in chosen]
        return items + [self._item(index, True, size, rng) for index in self._classes(micro_step, len(chosen))]

    def variants(self, first: int, last: int) -> Iterator[Variant]:
        """The distinct variants that micro steps ``first`` … ``last`` − 1 show."""
        seen: set[Variant] = set()
        bound = self._variants_in_all()
        for micro_step in range(first, last):
            for item in self.items(micro_step):
                if item.variant not in seen:
                    seen.add(item.variant)
                    yield item.variant
            if len(seen) == bound:
                return  # the rest of a long training shows nothing new

    def _variants_in_all(self) -> int | None:
        """How many variants there are where every showing is cut alike, else None."""
        return len(self.pictures) * (1 + self.flip) if self.crop != "random" and not self.class_pictures else None

    def _order(self, epoch: int) -> list[list[int]]:
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._batches(random.Random(f"order/{self.seed}/{epoch}")))
        return self._epoch[1]

    def _batches(self, rng: random.Random) -> list[list[int]]:
        """An epoch: every picture ``repeats`` times, batches of one bucket each, in a drawn order."""
        shown = [index for index, picture in enumerate(self.pictures) for _ in range(picture.repeats)]
        rng.shuffle(shown)
        by_bucket: dict[tuple[int, int], list[int]] = {}
        for index in shown:
            by_bucket.setdefault(self._buckets[index], []).append(index)
        batches = [members[start : start + self.batch] for members in by_bucket.values() for start in range(0, len(members), self.batch)]
        rng.shuffle(batches)
        return batches

    def _classes(self, micro_step: int, count: int) -> list[int]:
        if not self.class_pictures:
            return []
        # Walked through in drawn rounds; a micro step takes its stretch of the walk.
        start = micro_step * self.batch
        return [self._class_at(place) for place in range(start, start + count)]

    def _class_at(self, place: int) -> int:
        tour, offset = divmod(place, len(self.class_pictures))
        if getattr(self, "_tour", (None,))[0] != tour:
            order = list(range(len(self.class_pictures)))
            random.Random(f"classes/{self.seed}/{tour}").shuffle(order)
            self._tour = (tour, order)
        return self._tour[1][offset]

    def _item(self, index: int, prior: bool, size: tuple[int, int], rng: random.Random) -> Item:
        drawn = (rng.choice(_RANDOM_POSITIONS), rng.choice(_RANDOM_POSITIONS))
        flip = rng.random() < 0.5 and self.flip
        picture = (self.class_pictures if prior else self.pictures)[index]
        variant = Variant(index, prior, size, self._position(index, prior, picture, size, drawn), flip)
        return Item(variant, self._caption(picture, prior, rng))

    def _position(
        self, index: int, prior: bool, picture: Picture, size: tuple[int, int], drawn: tuple[float, float]
    ) -> tuple[float, float]:
        if self.crop == "random":
            # Only the axis that is cut has a choice; the other must not make a second variant.
            wider = picture.width_px * size[1] > picture.height_px * size[0]
            taller = picture.width_px * size[1] < picture.height_px * size[0]
            return drawn[0] if wider else 0.5, drawn[1] if taller else 0.5
        if self.crop == "focal":
            key = Variant(index, prior, size, (0.5, 0.5), False)
            if key not in self._focus:
                self._focus[key] = focal_position(load_rgb(picture.path), *size)
            return self._focus[key]
        return 0.5, 0.5

    def _caption(self, picture: Picture, prior: bool, rng: random.Random) -> str:
        options = self.captions
        trigger = "" if prior else options.trigger
        return compose(
            final_caption(picture, options.template, trigger, options.class_word),
            trigger=trigger,
            keep_tags=options.keep_tags,
            shuffle=options.shuffle,
            tag_dropout=options.tag_dropout,
            caption_dropout=options.caption_dropout,
            rng=rng,
        )
