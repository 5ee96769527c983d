"""Batches: the plan's items with their encoded images, from the cache or encoded on the spot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from lib_finetune.data.cache import Encoded, LatentCache
from lib_finetune.data.images import fit, load_rgb, to_tensor
from lib_finetune.data.masks import MaskWeights
from lib_finetune.data.plan import Item, Plan, Variant
from lib_finetune.data.scan import Picture
from lib_finetune.errors import FinetuneError

Encode = Callable[[torch.Tensor], Encoded]


@dataclass(frozen=True)
class Batch:
    """What one micro step trains on; b counts images and class images.

    Attributes:
        mean, std: ``[b, 4, h/8, w/8] float32``, the VAE's posterior on the CPU, not scaled.
        captions: one per image; "" where the caption was dropped.
        weight: ``[b] float32``, 1, or the prior weight for class images.
        prior: which are class images.
        names: file names relative to their folder.
        mask: ``[b, 1, h/8, w/8] float32``, weights of the loss at each place; None where no image has a mask.
    """

    mean: torch.Tensor
    std: torch.Tensor
    captions: tuple[str, ...]
    weight: torch.Tensor
    prior: tuple[bool, ...]
    names: tuple[str, ...]
    mask: torch.Tensor | None = None


class Batches:
    """Batches of a plan.

    Args:
        encode: ``[1, 3, h, w] float32`` pixels in -1..1 on the CPU → (mean, std), each ``[1, 4, h/8, w/8]``. Called with one
            image at a time, so that a result does not depend on what else is in its batch.
        prior_weight: weight of class images in the loss.
        unmasked_weight: weight in the loss of what an image's mask leaves out.
    """

    def __init__(self, plan: Plan, cache: LatentCache, encode: Encode, prior_weight: float = 1.0, unmasked_weight: float = 1.0) -> None:
        self._plan = plan
        self._cache = cache
        self._encode = encode
        self._prior_weight = prior_weight
        self._masks = MaskWeights(unmasked_weight)

    def missing(self, first: int, last: int) -> list[Variant]:
        """What the micro steps ``first`` to ``last`` - 1 need and the cache does not have, in the order of need."""
        by_key: dict[str, Variant] = {}  # by key: copies of an image are encoded once
        for variant in self._plan.variants(first, last):
            key = self._key(variant)
            if key not in self._cache:
                by_key.setdefault(key, variant)
        return list(by_key.values())

    def encode_variant(self, variant: Variant) -> None:
        """Encode an image and cache the result.

        Raises:
            InputError: the image is gone, broken or another one since the scan; names it.
            FinetuneError: the VAE gave numbers that are not finite.
        """
        self._encoded(variant)

    def batch(self, micro_step: int) -> Batch:
        """The batch of one micro step, counted from 0 over all epochs; what the cache lacks is encoded now.

        Raises:
            InputError, FinetuneError: as `encode_variant`.
        """
        items = self._plan.items(micro_step)
        entries = [self._cache.get(self._key(item.variant)) or self._encoded(item.variant) for item in items]
        return Batch(
            mean=torch.cat([mean for mean, _ in entries]),
            std=torch.cat([std for _, std in entries]),
            captions=tuple(item.caption for item in items),
            weight=torch.tensor([self._prior_weight if item.prior else 1.0 for item in items], dtype=torch.float32),
            prior=tuple(item.prior for item in items),
            names=tuple(self._picture(item.variant).name for item in items),
            mask=self._mask(items),
        )

    def weight(self, micro_step: int) -> float:
        """See `Plan.weight`."""
        return self._plan.weight(micro_step)

    def _encoded(self, variant: Variant) -> Encoded:
        picture = self._picture(variant)
        image = fit(load_rgb(picture.path, picture.content), *variant.size, variant.position)
        mean, std = (value.detach().to("cpu", torch.float32) for value in self._encode(to_tensor(image, variant.flip).unsqueeze(0)))
        if not (mean.isfinite().all() and std.isfinite().all()):
            raise FinetuneError(
                f"The VAE gave numbers that are not finite for {picture.path}, in fp32 too: its file is damaged. Use another VAE."
            )
        self._cache.put(self._key(variant), mean, std)
        return mean, std

    def _mask(self, items: Sequence[Item]) -> torch.Tensor | None:
        masks = [self._picture(item.variant).mask for item in items]
        if not any(masks):
            return None
        whole = torch.ones(1, 1, items[0].size[1] // 8, items[0].size[0] // 8)
        weights = [
            self._masks.of(mask, item.size, item.position, item.flip) if mask else whole for mask, item in zip(masks, items, strict=True)
        ]
        return torch.cat(weights)

    def _picture(self, variant: Variant) -> Picture:
        return (self._plan.class_pictures if variant.prior else self._plan.pictures)[variant.picture]

    def _key(self, variant: Variant) -> str:
        return self._cache.key(self._picture(variant).content, variant.size, variant.position, variant.flip)
