"""The processes that train together, each on its share of every step's images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch


class Processes(Protocol):
    """One of several processes that train the same weights; every process calls the same methods in the same order.

    Attributes:
        rank: of this process, from 0. The first writes files, states and previews.
        count: how many there are.
    """

    rank: int
    count: int

    def add(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace each tensor by its sum over all processes, in place."""

    def first_says(self, answer: bool) -> bool:
        """The answer of the first process."""

    def wait(self) -> None:
        """Until all processes have come here."""


class Alone:
    """Implements `Processes` for one process."""

    rank, count = 0, 1

    def add(self, tensors: Sequence[torch.Tensor]) -> None:
        """Nothing: the sum is what there is."""

    def first_says(self, answer: bool) -> bool:
        """The answer itself."""
        return answer

    def wait(self) -> None:
        """Nobody else comes."""


ALONE = Alone()
