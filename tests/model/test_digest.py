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


def test_the_number_does_not_depend_on_what_else_is_there():
    generator = torch.Generator().manual_seed(3)
    sizes = [(0,), (1,), (3, 5), (17,), (4096,), (8191, 2), (40_000,), (1 << 17,)]
    dtypes = (torch.float16, torch.float32, torch.int64, torch.bool)
    tensors = {f"{size} {dtype}": torch.randint(0, 2, size, generator=generator).to(dtype) for size in sizes for dtype in dtypes}
    assert digest(tensors) == {name: digest({name: tensor})[name] for name, tensor in tensors.items()}
    assert list(digest(tensors)) == list(tensors) and digest({}) == {}


def test_a_short_and_a_long_form_of_one_value_have_the_number_of_the_row_sum():
    from lib_finetune.model.digest import _factors, _reduce, _words

    values = torch.randn(1000, generator=torch.Generator().manual_seed(4))
    assert digest({"a": values})["a"] == int(_reduce(_words(values), _factors()))
