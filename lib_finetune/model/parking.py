"""Parking: tensors give up their place on the device for main memory and take it again, the same bits at another address."""

from __future__ import annotations

from collections.abc import Iterable

import torch

RAM = torch.device("cpu")


class Parking:
    """Remembers what it has sent away and where that was.

    A tensor stays the object that it is, so modules, optimizers and hooks that hold it see it move. On the CPU it is a
    copy to another address.
    """

    def __init__(self) -> None:
        self._away: list[tuple[torch.Tensor, torch.device]] = []

    def send(self, tensors: Iterable[torch.Tensor]) -> None:
        """Move tensors to main memory, one after the other.

        Raises:
            RuntimeError: main memory has no room; `bring` takes back what has been moved.
        """
        for tensor in tensors:
            place = tensor.device
            tensor.data = tensor.data.to(RAM, copy=True)
            self._away.append((tensor, place))
        if any(place.type == "cuda" for _, place in self._away):
            torch.cuda.empty_cache()  # else what comes in their place would lie in gaps of other sizes

    def bring(self) -> None:
        """Move all of them back. After an error it may be called again.

        Raises:
            RuntimeError: the device has no room.
        """
        while self._away:
            tensor, place = self._away[-1]
            tensor.data = tensor.data.to(place, copy=True)
            self._away.pop()
