"""Batches: the plan's items with their latents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from lib_finetune.data.cache import LatentCache, Latents
from lib_finetune.data.images import fit, load_rgb, to_tensor
from lib_finetune.data.plan import Plan, Variant
from lib_finetune.data.scan import Picture


@dataclass(frozen=True)
class Batch:
    """One micro step's pictures.

    Attributes:
        mean, std: of the autoencoder's posterior, [b, 4, h/8, w/8] float32 on the CPU.
        weight: of each picture's loss, [b] float32.
        prior: which are class pictures.
    """

    mean: torch.Tensor
    std: torch.Tensor
    captions: tuple[str, ...]
    weight: torch.Tensor
    prior: tuple[bool, ...]


class Batches:
    """Gives the batch of any micro step; encodes what the cache lacks."""

    def __init__(self, plan: Plan, cache: LatentCache, encode: Callable[[torch.Tensor], Latents], prior_weight: float) -> None:
        """
        Args:
            encode: [1, 3, h, w] float32 in −1 … 1 → (mean, std), each [1, 4, h/8, w/8]; called for one picture at a time,
                so that a latent does not depend on its neighbours.
            prior_weight: weight of class pictures.
        """
        self.plan = plan
        self._cache = cache
        self._encode = encode
        self._prior_weight = prior_weight

    def missing(self, first: int, last: int) -> Iterator[Variant]:
        """Variants of micro steps ``first`` … ``last`` − 1 that the cache lacks."""
        return (variant for variant in self.plan.variants(first, last) if not self._cache.has(self._key(variant)))

    def encode_variant(self, variant: Variant) -> Latents:
        """Load, cut, encode and keep one variant.

        Raises:
            InputError: the picture vanished or broke since it was found.
        """
        image = fit(load_rgb(self._picture(variant).path), *variant.size, variant.position)
        mean, std = self._encode(to_tensor(image, variant.flip)[None])
        self._cache.put(self._key(variant), mean, std)
        return mean, std

    def batch(self, micro_step: int) -> Batch:
        """The batch of a micro step; all of one size."""
        items = self.plan.items(micro_step)
        latents = [self._cache.get(self._key(item.variant)) or self.encode_variant(item.variant) for item in items]
        prior = tuple(item.variant.prior for item in items)
        return Batch(
            mean=torch.cat([mean for mean, _ in latents]),
            std=torch.cat([std for _, std in latents]),
            captions=tuple(item.caption for item in items),
            weight=torch.tensor([self._prior_weight if is_prior else 1.0 for is_prior in prior]),
            prior=prior,
        )

    def _picture(self, variant: Variant) -> Picture:
        return (self.plan.class_pictures if variant.prior else self.plan.pictures)[variant.picture]

    def _key(self, variant: Variant) -> str:
        return self._cache.key(self._picture(variant).content, variant.size, variant.position, variant.flip)
