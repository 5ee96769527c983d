"""The nearest product of narrow matrices, against numpy's own decomposition."""

import numpy as np
import pytest
import torch

from lib_finetune.export.low_rank import Keep, of_matrix, of_product


def matrix(rows, columns, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * torch.linspace(1, 0.01, columns)


def nearest_by_numpy(whole, rank):
    u, s, v = np.linalg.svd(whole.double().numpy(), full_matrices=False)
    return torch.from_numpy((u[:, :rank] * s[:rank]) @ v[:rank]).float(), s


@pytest.mark.parametrize(("rows", "columns"), [(20, 90), (90, 20), (30, 30)])
@pytest.mark.parametrize("rank", [1, 5, 20])
def test_a_matrix_and_a_product_come_to_the_best_of_that_rank(rows, columns, rank):
    whole = matrix(rows, columns)
    best, _ = nearest_by_numpy(whole, rank)
    for down, up in (of_matrix(whole, Keep(rank)), of_product(whole, torch.eye(columns), Keep(rank))):
        assert down.shape == (rank, columns) and up.shape == (rows, rank)
        assert torch.allclose(up @ down, best, atol=2e-5)
        assert torch.allclose(up.norm(dim=0), down.norm(dim=1), rtol=1e-3)  # √σ on each side


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9, 0.99])
def test_a_share_takes_the_least_rank_that_keeps_it(share):
    whole = matrix(40, 60)
    down, up = of_matrix(whole, Keep(share=share))
    _, values = nearest_by_numpy(whole, 1)

    def lost(rank):
        return np.sqrt((values[rank:] ** 2).sum() / (values**2).sum())

    assert lost(len(down)) <= 1 - share + 1e-6 < lost(len(down) - 1)
    assert float((whole - up @ down).norm() / whole.norm()) <= 1 - share + 1e-5


def test_the_whole_share_of_a_product_is_its_own_rank_and_loses_nothing():
    up, down = matrix(50, 6), matrix(6, 80, seed=1)
    new_down, new_up = of_product(up, down, Keep(share=1.0))
    assert len(new_down) == 6 and torch.allclose(new_up @ new_down, up @ down, atol=1e-5)


def test_the_rank_bounds_what_a_share_asks_for():
    assert len(of_matrix(matrix(40, 60), Keep(3, 0.99))[0]) == 3


def test_a_change_of_nothing_has_rank_one_and_no_nan():
    for down, up in (of_matrix(torch.zeros(4, 9), Keep(share=0.9)), of_product(torch.zeros(4, 2), torch.zeros(2, 9), Keep(8))):
        assert not torch.isnan(up @ down).any() and float((up @ down).abs().max()) == 0.0
