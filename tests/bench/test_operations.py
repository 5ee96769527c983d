"""The count of a step's operations: what counts, and what a step may cost."""

import pytest
import torch

from bench import operations
from bench.operations import ROWS, _Counter
from lib_finetune.model.random_weights import small_layout


def counts(work):
    with _Counter() as counter:
        work()
    return counter.counted


def test_views_and_reserved_memory_are_not_counted_but_copies_and_products_are():
    value = torch.ones(4, 4)
    assert counts(lambda: (value.view(2, 8).t().unsqueeze(0)[..., 1:].detach(), torch.empty(3), value.split(2))).total == 0
    found = counts(lambda: ((value @ value).mul_(2.0), value.half(), value * value, value.sum().item()))
    assert found.names == {"mm": 1, "mul_": 1, "_to_copy": 1, "mul": 1, "sum": 1, "_local_scalar_dense": 1}
    assert (found.total, found.casts, found.scales, found.reads) == (6, 1, 1, 1)


def test_the_backward_pass_counts():
    weight = torch.ones(4, 4, requires_grad=True)
    assert counts(lambda: (torch.ones(4, 4) @ weight).sum().backward()).names["mm"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("row", list(ROWS))
def test_a_step_counts_the_same_each_time(row):
    first, second = (operations.counted(ROWS[row], torch.bfloat16, small_layout(), steps) for steps in (2, 3))
    assert first == second and first.total > 100


@pytest.mark.slow
@pytest.mark.parametrize(
    ("row", "base", "changes", "most"),
    [
        ("text encoder trained", torch.bfloat16, {}, 3424),  # 60 % of the 5,707 of before branches were put together
        ("text cached", torch.bfloat16, {}, 2402),
        ("text encoder trained", torch.float32, {"training.precision": "bf16"}, 4014),
    ],
)
def test_a_step_at_the_structure_of_sd15_takes_60_percent_of_what_it_took(row, base, changes, most):
    found = operations.counted({**ROWS[row], "network.rank": "16", **changes}, base)
    assert found.total <= most and found.reads == 0 and found.casts <= 130 and found.scales <= 40
