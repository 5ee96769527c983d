"""The order in which images come: a function of seed and position alone, so that continuing a run needs no state."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate


class Order:
    """Batches of an endless row of epochs, each of one group, each entry once an epoch.

    Args:
        groups: entries that may share a batch; an entry that comes twice an epoch stands in its group twice.
        batch: entries in a batch; the last of a group may be smaller.
        seed: the same seed gives the same order.

    Attributes:
        epoch_steps: batches in one epoch.
        epoch_items: entries in one epoch.
        largest_batch: entries in the fullest batch.
    """

    def __init__(self, groups: Sequence[Sequence[int]], batch: int, seed: int) -> None:
        if batch < 1:
            raise ValueError(f"a batch of {batch} images is not possible")
        self._groups = [tuple(group) for group in groups if group]
        if not self._groups:
            raise ValueError("there is no image to put in order")
        self._batch = batch
        self._seed = seed
        self.epoch_items = sum(len(group) for group in self._groups)
        self.epoch_steps = sum(-(-len(group) // batch) for group in self._groups)
        self.largest_batch = min(batch, max(len(group) for group in self._groups))
        self._epoch = lru_cache(maxsize=2)(self._shuffled)

    @property
    def partial(self) -> bool:
        """Whether some batches hold fewer entries than others."""
        return self.epoch_items < self.largest_batch * self.epoch_steps

    def batch(self, micro_step: int) -> tuple[int, ...]:
        """The entries of a batch, counted from 0 over all epochs."""
        epoch, place = divmod(micro_step, self.epoch_steps)
        return self._epoch(epoch)[0][place]

    def counts(self, micro_steps: int) -> Counter[int]:
        """How often each entry comes in the first ``micro_steps`` batches."""
        epochs, rest = divmod(micro_steps, self.epoch_steps)
        counts = Counter({entry: times * epochs for entry, times in Counter(entry for group in self._groups for entry in group).items()})
        for batch in self._epoch(epochs)[0][:rest]:
            counts.update(batch)
        return counts

    def before(self, micro_step: int) -> int:
        """How many entries come in all batches before this one."""
        epoch, place = divmod(micro_step, self.epoch_steps)
        return epoch * self.epoch_items + self._epoch(epoch)[1][place]

    def _shuffled(self, epoch: int) -> tuple[list[tuple[int, ...]], list[int]]:
        rng = random.Random(f"{self._seed}/{epoch}")
        batches = []
        for group in self._groups:
            entries = list(group)
            rng.shuffle(entries)
            batches += [tuple(entries[start : start + self._batch]) for start in range(0, len(entries), self._batch)]
        rng.shuffle(batches)
        return batches, list(accumulate((len(batch) for batch in batches), initial=0))


class Walk:
    """An endless row of entries, each once a round, every round in a new order."""

    def __init__(self, entries: Sequence[int], seed: int) -> None:
        self._entries = tuple(entries)
        self._seed = seed
        self._round = lru_cache(maxsize=2)(self._shuffled)

    def at(self, place: int) -> int:
        """The entry at a place, counted from 0 over all rounds."""
        turn, within = divmod(place, len(self._entries))
        return self._round(turn)[within]

    def _shuffled(self, turn: int) -> list[int]:
        entries = list(self._entries)
        random.Random(f"{self._seed}/class/{turn}").shuffle(entries)
        return entries
