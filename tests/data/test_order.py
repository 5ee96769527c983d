from __future__ import annotations

from collections import Counter

import pytest

from lib_finetune.data.order import Order, Walk


def epoch(order: Order, number: int) -> list[tuple[int, ...]]:
    return [order.batch(number * order.epoch_steps + step) for step in range(order.epoch_steps)]


def test_pictures_meet_others_in_each_epoch():
    order = Order([range(12)], batch=3, seed=1)
    meetings = {frozenset(batch) for number in range(5) for batch in epoch(order, number)}
    assert len(meetings) > 15


def test_groups_are_mixed_over_the_epoch_and_not_one_after_the_other():
    order = Order([range(10), range(10, 20)], batch=1, seed=1)
    first_half = [entry for (entry,) in epoch(order, 0)[:10]]
    assert any(entry < 10 for entry in first_half)
    assert any(entry >= 10 for entry in first_half)


def test_groups_never_share_a_batch():
    order = Order([range(5), range(10, 17)], batch=4, seed=1)
    assert all(len({entry < 10 for entry in batch}) == 1 for number in range(4) for batch in epoch(order, number))


def test_before_counts_the_entries_of_all_earlier_batches():
    order = Order([range(5), range(10, 17)], batch=4, seed=1)
    for step in range(30):
        assert order.before(step) == sum(len(order.batch(earlier)) for earlier in range(step))


@pytest.mark.parametrize("groups", [[], [[]], [[], []]])
def test_nothing_to_order_is_refused(groups):
    with pytest.raises(ValueError, match="no image"):
        Order(groups, batch=1, seed=1)


def test_a_walk_shows_each_entry_once_a_round_in_changing_order():
    walk = Walk(range(8), seed=1)
    rounds = [[walk.at(turn * 8 + place) for place in range(8)] for turn in range(4)]
    assert all(Counter(entries) == Counter(range(8)) for entries in rounds)
    assert len({tuple(entries) for entries in rounds}) == 4
