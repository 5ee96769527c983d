"""A digest of weights: an integer reduction over their bits on the device itself, so that one changed or moved bit shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from lib_finetune.model.normal_tensor import normal

_ROW = 1 << 15  # words; on the CPU a row stays in the cache, and torch does not spread it over threads that wait for one another
_ROWS_AT_ONCE = {"cpu": 1}
_MANY_ROWS = 64
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def digest(tensors: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """Name → a 64-bit number that depends on every bit and its place.

    Rows of words are multiplied with fixed random odd factors and summed modulo 2⁶⁴, and so are the sums (a universal hash:
    Dietzfelbinger et al., A Reliable Randomized Algorithm for the Closest-Pair Problem, 1997). Nothing but one number a
    tensor leaves the device, all of them in one transfer. The same bits give the same number on every device.

    Args:
        tensors: any dtype and shape; each is reduced where it lies.
    """
    with torch.no_grad():
        digests: dict[str, int] = {}
        for place in dict.fromkeys(tensor.device for tensor in tensors.values()):
            digests |= _on_one_device({name: tensor for name, tensor in tensors.items() if tensor.device == place}, _factors().to(place))
    return {name: digests[name] for name in tensors}


def _on_one_device(tensors: Mapping[str, torch.Tensor], factors: torch.Tensor) -> dict[str, int]:
    """Most tensors are a part of one row: their sums are multiplied with the row's factor together, which saves half of the operations."""
    row = factors[0]
    names: dict[bool, list[str]] = {True: [], False: []}
    sums: dict[bool, list[torch.Tensor]] = {True: [], False: []}
    for name, tensor in tensors.items():
        parts = _words(normal(tensor).contiguous().flatten())
        short = len(parts) == 1 and parts[0].shape[0] < _ROW
        names[short].append(name)
        sums[short].append((parts[0] * row[: parts[0].shape[0]]).sum() if short else _reduce(parts, factors))
    digests: dict[str, int] = {}
    for short, own in sums.items():
        if own:
            joined = torch.stack(own) * (factors[1, 0] if short else 1)
            digests |= zip(names[short], joined.tolist(), strict=True)
    return digests


def _factors() -> torch.Tensor:
    """[2, row]: one factor a word of a row, one a row."""
    generator = torch.Generator().manual_seed(0x5EED)
    return torch.randint(-(1 << 62), 1 << 62, (2, _ROW), generator=generator) * 2 + 1


def _reduce(parts: Sequence[torch.Tensor], factors: torch.Tensor) -> torch.Tensor:
    sums = []
    for words in parts:
        if len(words) < _ROW:
            sums.append((words * factors[0, : len(words)]).sum().view(1))
            continue
        whole = len(words) // _ROW * _ROW
        at_once = _ROWS_AT_ONCE.get(words.device.type, _MANY_ROWS)
        sums += [(rows * factors[0]).sum(1) for rows in words[:whole].view(-1, _ROW).split(at_once)]
        sums.append((words[whole:] * factors[0, : len(words) - whole]).sum().view(1))
    joined = sums[0] if len(sums) == 1 else torch.cat(sums)
    return (joined * factors[1, : len(joined)]).sum()


def _words(bits: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The bits as 64-bit words and, where they do not fill the last one, the rest one element a word."""
    if bits.dtype == torch.bool:
        return (bits.to(torch.int64),)
    bits = bits.view(_BITS[bits.element_size()])
    per_word = 8 // bits.element_size()
    if bits.storage_offset() % per_word:
        bits = bits.clone()  # words must begin at a whole word of the storage
    whole = len(bits) // per_word * per_word
    if whole == len(bits):
        return (bits.view(torch.int64),)
    return bits[:whole].view(torch.int64), bits[whole:].to(torch.int64)
