"""The plan of a run: which images each step sees, cut, mirrored and captioned how; a function of seed and step alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property

from lib_finetune.data.buckets import Size, bucket_sizes, choose
from lib_finetune.data.captioning import Captioning
from lib_finetune.data.cropping import Cropping
from lib_finetune.data.order import Order, Walk
from lib_finetune.data.scan import Picture


@dataclass(frozen=True)
class Variant:
    """An image as it is encoded and cached.

    Attributes:
        image: index into the plan's images, or its class images if ``prior``.
        prior: whether it is a class image (prior preservation).
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
    """One image of a batch; fields as in `Variant`, and the caption of this very step."""

    picture: int
    size: Size
    position: tuple[float, float]
    flip: bool
    caption: str
    prior: bool

    @property
    def variant(self) -> Variant:
        """The part of it that is encoded."""
        return Variant(self.picture, self.prior, self.size, self.position, self.flip)


@dataclass(frozen=True)
class Epoch:
    """What an epoch shows.

    Attributes:
        images: that are trained on.
        views: images shown, repeats counted.
        batches: micro steps that show them; more than views / batch if sizes or numbers do not fill every batch.
    """

    pictures: int
    views: int
    batches: int

    @classmethod
    def of(cls, pictures: int, batch: int) -> Epoch:
        """The epoch of ``pictures`` images of one size, each shown once."""
        return cls(pictures, pictures, -(-pictures // batch))


@dataclass(frozen=True, eq=False)
class Plan:
    """Items of any micro step (one batch; several make an optimizer step where gradients are accumulated).

    Each batch holds images of one size. Every image comes exactly ``repeats`` times an epoch; the last batch of a
    size may be smaller. Where there are class images, n of them follow the n images of each batch, cut to the same size
    (prior preservation, Ruiz et al., DreamBooth, arXiv 2208.12242). The tags of their captions are never varied.

    Attributes:
        images: of the subject; at least one.
        class_pictures: of the class in general; may be empty.
        resolution: px; see `buckets.bucket_sizes`.
        buckets: False cuts all to the square.
        batch: images in a batch, class images not counted.
        seed: the same seed gives the same items.
        cropping: which part of an image is kept if it does not fit its size, and which images are mirrored.
        captioning: the caption of each image.

    Raises:
        ValueError: no image, or a batch or resolution that is too small.
    """

    pictures: Sequence[Picture]
    class_pictures: Sequence[Picture] = ()
    _: KW_ONLY
    resolution: int = 512
    buckets: bool = True
    batch: int = 1
    seed: int = 42
    cropping: Cropping = field(default_factory=Cropping)
    captioning: Captioning = field(default_factory=Captioning)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pictures", tuple(self.pictures))
        object.__setattr__(self, "class_pictures", tuple(self.class_pictures))
        _ = self.order  # here, so that wrong input fails before the first step

    @property
    def epoch_steps(self) -> int:
        """Micro steps in one epoch."""
        return self.order.epoch_steps

    @property
    def epoch(self) -> Epoch:
        """What an epoch shows."""
        return Epoch(len(self.pictures), self.order.epoch_items, self.order.epoch_steps)

    def views(self, first: int, last: int) -> list[int]:
        """How often each image comes in the micro steps ``first`` to ``last`` - 1."""
        before, after = self.order.counts(first), self.order.counts(last)
        return [after[index] - before[index] for index in range(len(self.pictures))]

    def weight(self, micro_step: int) -> float:
        """Weight of a batch's mean loss in the gradient: its number of images relative to the mean batch, so that all images count alike."""
        return len(self.order.batch(micro_step)) * self.order.epoch_steps / self.order.epoch_items

    @cached_property
    def sizes(self) -> tuple[Size, ...]:
        """Each image's size in training, (width, height) in px."""
        offered = bucket_sizes(self.resolution, buckets=self.buckets)
        shapes = {(picture.width_px, picture.height_px) for picture in self.pictures}
        chosen = {shape: choose(*shape, offered) for shape in shapes}  # most images share a few shapes
        return tuple(chosen[picture.width_px, picture.height_px] for picture in self.pictures)

    @cached_property
    def captions(self) -> tuple[str, ...]:
        """Each image's caption before it is varied; the first where it has alternatives."""
        return tuple(self.captioning.final(picture) for picture in self.pictures)

    @cached_property
    def class_captions(self) -> tuple[str, ...]:
        """Each class image's caption."""
        return tuple(self.captioning.of_class(picture) for picture in self.class_pictures)

    def items(self, micro_step: int) -> list[Item]:
        """The items of one micro step, counted from 0 over all epochs: images first, then class images."""
        items = []
        for place, variant in enumerate(self._variants(micro_step)):
            caption = self._caption(variant, _key(self.seed, micro_step, place))
            items.append(Item(variant.picture, variant.size, variant.position, variant.flip, caption, variant.prior))
        return items

    def variants(self, first: int, last: int) -> Iterator[Variant]:
        """Each different variant that the micro steps ``first`` to ``last`` - 1 need, in the order of need.

        The row ends as soon as it holds every possible variant, however many steps are left.
        """
        seen: set[Variant] = set()
        possible = _possible(self)
        for micro_step in range(first, last):
            for variant in self._variants(micro_step):
                if variant not in seen:
                    seen.add(variant)
                    yield variant
            if len(seen) >= possible:
                return

    @cached_property
    def order(self) -> Order:
        """Which images each batch holds."""
        groups: dict[Size, list[int]] = {size: [] for size in sorted(set(self.sizes))}
        for index in _repeated(self.pictures):
            groups[self.sizes[index]].append(index)
        return Order(list(groups.values()), self.batch, self.seed)

    @cached_property
    def walk(self) -> Walk:
        """The order of the class images beside them."""
        return Walk(_repeated(self.class_pictures), self.seed)

    def _variants(self, micro_step: int) -> list[Variant]:
        entries = self.order.batch(micro_step)
        size = self.sizes[entries[0]]
        variants = [self._variant(index, False, size, micro_step, place) for place, index in enumerate(entries)]
        if self.class_pictures:
            before, count = self.order.before(micro_step), len(entries)
            variants += [self._variant(self.walk.at(before + i), True, size, micro_step, count + i) for i in range(count)]
        return variants

    def _variant(self, index: int, prior: bool, size: Size, micro_step: int, place: int) -> Variant:
        picture = (self.class_pictures if prior else self.pictures)[index]
        position, flip = self.cropping.choose(picture, size, _key(self.seed, micro_step, place))
        return Variant(index, prior, size, position, flip)

    def _caption(self, variant: Variant, key: str) -> str:
        index = variant.picture
        if not variant.prior:
            return self.captioning.varied(self.pictures[index], self.captions[index], key)
        if self.captioning.has_alternatives(self.class_pictures[index]):
            return self.captioning.of_class(self.class_pictures[index], key)
        return self.class_captions[index]


def _possible(plan: Plan) -> int:
    """The number of all possible variants."""
    ways = plan.cropping.ways
    subject = sum(ways(picture, size) for picture, size in zip(plan.pictures, plan.sizes, strict=True))
    return subject + sum(ways(picture, size) for size in set(plan.sizes) for picture in plan.class_pictures)


def _key(seed: int, micro_step: int, place: int) -> str:
    """The key from which all chance at one place of a batch follows."""
    return f"{seed}/{micro_step}/{place}"


def _repeated(pictures: Sequence[Picture]) -> list[int]:
    return [index for index, picture in enumerate(pictures) for _ in range(picture.repeats)]
