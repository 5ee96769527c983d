"""Rows that try every pair of values of several factors, and few of them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

Row = dict[str, str]


def rows(factors: Mapping[str, Sequence[str]], count: int) -> list[Row]:
    """Rows that hold each pair of values of two factors at least once; then further ones up to ``count``, with new triples first.

    Greedy: each row is the one that adds most pairs, then most triples; of equals the first. The same factors give the same rows.

    Args:
        factors: name → its values.
        count: the fewest rows; every pair comes even where they are not enough.
    """
    candidates = [dict(zip(factors, values, strict=True)) for values in itertools.product(*factors.values())]
    pairs = set().union(*(_parts(row, 2) for row in candidates))
    triples = set().union(*(_parts(row, 3) for row in candidates))
    chosen: list[Row] = []
    while candidates and (pairs or len(chosen) < count):
        best = max(candidates, key=lambda row: (len(_parts(row, 2) & pairs), len(_parts(row, 3) & triples)))
        candidates.remove(best)
        chosen.append(best)
        pairs -= _parts(best, 2)
        triples -= _parts(best, 3)
    return chosen


def _parts(row: Row, size: int) -> set[tuple[tuple[str, str], ...]]:
    return set(itertools.combinations(row.items(), size))
