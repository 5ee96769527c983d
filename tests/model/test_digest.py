"""The digest sees every bit and its place."""

import pytest
import torch

from lib_finetune.model.digest import digest


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8])
@pytest.mark.parametrize("size", [1, 7, 4096, (1 << 20) + 3])
def test_one_flipped_bit_changes_it(dtype, size):
    values = torch.arange(size).remainder(100).to(dtype)
    before = digest({"a": values})
    changed = values.clone()
    view = changed.view(torch.uint8)
    view[-1] ^= 1
    assert digest({"a": changed}) != before == digest({"a": values.clone()})


def test_swapped_values_change_it():
    values = torch.randn(3_000_000)
    swapped = values.clone()
    swapped[[5, 2_500_000]] = values[[2_500_000, 5]]
    assert digest({"a": values}) != digest({"a": swapped})


def test_a_view_into_a_larger_storage_counts_by_its_values():
    whole = torch.randn(100)
    assert digest({"a": whole[3:50]}) == digest({"a": whole[3:50].clone()})
