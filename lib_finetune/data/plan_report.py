"""What a person should know about a plan: sizes, enlarged images, captions that get the trigger in front, first crops."""

from __future__ import annotations

from collections.abc import Sequence

from lib_finetune.data.buckets import Size
from lib_finetune.data.captioning import Captioning
from lib_finetune.data.captions import holds_caption
from lib_finetune.data.images import lost_share
from lib_finetune.data.plan import Plan
from lib_finetune.data.scan import Picture

_MUCH = round(1 / 3, 9)
"""Share of an image's area that is worth a sentence when it is cut off."""


def bucket_counts(plan: Plan) -> dict[Size, int]:
    """How many images each size has, repeats not counted; sorted by size."""
    return {size: plan.sizes.count(size) for size in sorted(set(plan.sizes))}


def views_of_sizes(plan: Plan) -> dict[Size, int]:
    """Size → images an epoch shows of it, repeats counted; sorted by size."""
    counts: dict[Size, int] = {}
    for size, picture in zip(plan.sizes, plan.pictures, strict=True):
        counts[size] = counts.get(size, 0) + picture.repeats
    return dict(sorted(counts.items()))


def class_pictures_in(plan: Plan, micro_steps: int) -> int:
    """The number of different class images in the first micro steps."""
    if not plan.class_pictures:
        return 0
    a_round = sum(picture.repeats for picture in plan.class_pictures)
    return len({plan.walk.at(place) for place in range(min(plan.order.before(micro_steps), a_round))})


def used_templates(plan: Plan) -> tuple[str, ...]:
    """The captions of templates, if any image uses them."""
    return plan.captioning.template_captions if any(map(plan.captioning.uses_templates, plan.pictures)) else ()


def replaces(captioning: Captioning, picture: Picture) -> bool:
    """Whether templates replace an image's own caption, at least some of the time."""
    written = bool(picture.caption) and captioning.uses_templates(picture)
    return written and not all(map(holds_caption, captioning.templates))


def triggered(plan: Plan) -> int:
    """The number of captions that get the trigger in front, because they lack it."""
    return sum(plan.captioning.plain(picture) != caption for picture, caption in zip(plan.pictures, plan.captions, strict=True))


def first_positions(plan: Plan) -> list[tuple[float, float]]:
    """The part of each image that is kept the first time, as `images.fit` takes it."""
    positions: dict[int, tuple[float, float]] = {}
    for variant in plan.variants(0, plan.epoch_steps):
        if not variant.prior:
            positions.setdefault(variant.picture, variant.position)
    return [positions[index] for index in range(len(plan.pictures))]


def templated(plan: Plan) -> list[str]:
    """Sentences on what happens to captions beside templates."""
    captioning = plan.captioning
    replaced = sum(replaces(captioning, picture) for picture in plan.pictures)
    written = sum(bool(picture.caption) for picture in plan.pictures)
    if replaced and any(map(holds_caption, captioning.templates)):
        return [f"Templates without [filewords] replace the captions of {replaced} of {len(plan.pictures)} images some of the times."]
    if replaced:
        return [
            f"The templates replace the captions of {replaced} of {len(plan.pictures)} images. With [filewords] in them, both are read."
        ]
    shown = captioning.templates if captioning.templates_win else (captioning.template,)
    if written and any(map(holds_caption, shown)):
        return [f"The template surrounds the captions of {written} of {len(plan.pictures)} images."]
    return []


def masked(plan: Plan) -> list[str]:
    """How many images have a mask, and what that does."""
    count = sum(picture.mask is not None for picture in plan.pictures)
    if not count:
        return []
    return [f"Masks: {count} of {len(plan.pictures)} images have one; what it leaves out counts less (objective.unmasked_weight)."]


def lines(plan: Plan, micro_steps: int | None = None) -> list[str]:
    """The report, one sentence for each point.

    Args:
        micro_steps: of the run; None if its length is not known.
    """
    sizes = ", ".join(f"{count} at {width}×{height}" for (width, height), count in bucket_counts(plan).items())
    sentences = [f"Sizes in training: {sizes} px.", *templated(plan), *masked(plan)]
    if short := {size: views for size, views in views_of_sizes(plan).items() if views < plan.batch}:
        held = ", ".join(f"{views} at {width}×{height}" for (width, height), views in short.items())
        sentences.append(
            f"The batch size is {plan.batch}, and some sizes have fewer images ({held}): a batch has one size, so theirs are smaller. "
            "Each image counts alike all the same."
        )
    if count := triggered(plan):
        sentences.append(f'The trigger word "{plan.captioning.trigger}" is put in front of {count} of {len(plan.captions)} captions.')
    small = [picture.name for picture, size in zip(plan.pictures, plan.sizes, strict=True) if _smaller(picture, size)]
    if small:
        sentences.append(f"{len(small)} smaller than in training, and enlarged: {_named(small)}. Larger images give sharper results.")
    if cut := much_cut(plan):
        cut_names = _named([picture.name for picture in cut])
        sentences.append(f"A third or more is cut off of {len(cut)}: {cut_names}. {crop_advice(plan.cropping.crop, buckets=plan.buckets)}")
    most = max(set(plan.sizes), key=plan.sizes.count)
    small = [picture.name for picture in plan.class_pictures if _smaller(picture, most)]
    if small:
        sentences.append(
            f"{len(small)} of {len(plan.class_pictures)} class images are smaller than in training, and enlarged: {_named(small)}."
        )
    if plan.class_pictures and micro_steps is not None:
        count, used = len(plan.class_pictures), class_pictures_in(plan, micro_steps)
        sentences.append(f"The batches hold {used} of {count} class images, one beside each image." + _too_many(used, count))
    return sentences


def _too_many(used: int, count: int) -> str:
    return " The others do not come in so few steps." if used < count else ""


def much_cut(plan: Plan) -> list[Picture]:
    """A sentence on the images that lose a large part of their area."""
    return [picture for picture, size in zip(plan.pictures, plan.sizes, strict=True) if is_much_cut(picture, size)]


def is_much_cut(picture: Picture, size: Size) -> bool:
    """Whether a third or more of an image is cut off."""
    return round(lost_share(picture.width_px, picture.height_px, size), 9) >= _MUCH


def crop_advice(crop: str, *, buckets: bool) -> str:
    """Advice on how to keep the important part of images that are cut."""
    ways = ["crop it yourself"]
    if crop in ("centre", "random"):
        ways.append("set data.crop to focal")
    if not buckets:
        ways.append("switch on data.buckets")
    return f"To keep what matters, {' or '.join(ways)}."


def _smaller(picture: Picture, size: Size) -> bool:
    return picture.width_px < size[0] or picture.height_px < size[1]


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
