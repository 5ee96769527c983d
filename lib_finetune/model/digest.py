"""A digest of weights: an integer reduction over their bits on the device itself, so that one changed or moved bit shows."""

from __future__ import annotations

from collections.abc import Mapping

import torch

_CHUNK = 1 << 20
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def digest(tensors: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """Name → a 64-bit number that depends on every bit and its place.

    Each chunk of a million words is multiplied with fixed random odd factors and summed modulo 2⁶⁴ (a universal hash:
    Dietzfelbinger et al., A Reliable Randomized Algorithm for the Closest-Pair Problem, 1997). Nothing but one number a
    tensor leaves the device, all of them in one transfer.

    Args:
        tensors: any dtype and shape; each is reduced where it lies.
    """
    with torch.no_grad():
        factors: dict[torch.device, torch.Tensor] = {}
        sums: dict[torch.device, list[torch.Tensor]] = {}
        names: dict[torch.device, list[str]] = {}
        for name, tensor in tensors.items():
            place = tensor.device
            if place not in factors:
                factors[place] = _factors().to(place)
            sums.setdefault(place, []).append(_reduce(tensor, factors[place]))
            names.setdefault(place, []).append(name)
        found = {name: value for place in sums for name, value in zip(names[place], torch.stack(sums[place]).tolist())}
    return {name: int(found[name]) for name in tensors}


def _factors() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0x5EED)
    return torch.randint(-(1 << 62), 1 << 62, (_CHUNK,), generator=generator) * 2 + 1


def _reduce(tensor: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.int64, device=tensor.device)
    for words in _words(tensor.detach().contiguous().flatten()):
        for chunk in words.split(_CHUNK):
            # The odd factor between chunks makes their order count.
            total = total * 6364136223846793005 + (chunk * factors[: len(chunk)]).sum()
    return total


def _words(bits: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The bits as 64-bit words and, where they do not fill the last one, the rest one element a word."""
    if bits.dtype == torch.bool:
        return (bits.to(torch.int64),)
    bits = bits.view(_BITS[bits.element_size()])
    per_word = 8 // bits.element_size()
    if bits.storage_offset() % per_word:
        bits = bits.clone()  # words must begin at a whole word of the storage
    whole = len(bits) // per_word * per_word
    return bits[:whole].view(torch.int64), bits[whole:].to(torch.int64)
