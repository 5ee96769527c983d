"""The nearest product of two narrow matrices to a matrix, or to a product of wider ones, by singular value decomposition."""

from __future__ import annotations

from dataclasses import dataclass

import torch

_EXACT = 1e-6
"""Of the whole change: what float32 does not hold anyway counts as nothing lost."""
Factors = tuple[torch.Tensor, torch.Tensor]
"""(down [rank, in], up [out, rank]), float32; √σ goes to each side."""


@dataclass(frozen=True)
class Keep:
    """How much of a change is kept.

    Attributes:
        rank: at most; None for as many as ``share`` asks for.
        share: 0 to 1: of each layer's change Δ the least rank is taken that loses at most 1 − share of it, ‖Δ − Δ'‖ / ‖Δ‖. None: as ``rank`` says.
    """

    rank: int | None = None
    share: float | None = None

    def rank_for(self, values: torch.Tensor) -> int:
        """The rank of a layer.

        Args:
            values: singular values, descending.
        """
        most = len(values) if self.rank is None else min(self.rank, len(values))
        if self.share is None:
            return max(1, most)
        lost = values.double().square().flip(0).cumsum(0).flip(0).sqrt()  # lost[k]: what is lost at rank k
        enough = int((lost > (1 - self.share + _EXACT) * lost[0]).sum())
        return max(1, min(most, enough))


def of_matrix(matrix: torch.Tensor, keep: Keep) -> Factors:
    """The nearest product to a matrix [out, in].

    By the eigenvectors of the smaller of its two products with itself, in float64: some hundred times less work than its own decomposition
    where one side is long, and exact to eight digits of its largest singular value.
    """
    whole = matrix.double()
    tall = whole.shape[0] > whole.shape[1]
    squares, vectors = torch.linalg.eigh(whole.T @ whole if tall else whole @ whole.T)
    values, vectors = squares.clamp_min(0).sqrt().flip(0), vectors.flip(1)
    rank = keep.rank_for(values)
    side, root = vectors[:, :rank], values[:rank].sqrt()
    other = (whole @ side if tall else side.T @ whole.contiguous()) / _safe(root if tall else root[:, None])
    up, down = (other, (side * root).T) if tall else (side * root, other)
    return down.float().contiguous(), up.float().contiguous()


def of_product(up: torch.Tensor, down: torch.Tensor, keep: Keep) -> Factors:
    """The nearest narrower product to up [out, rank] @ down [rank, in], which itself is never made."""
    left, small_left = torch.linalg.qr(up.double())
    right, small_right = torch.linalg.qr(down.double().T)
    u, values, vh = torch.linalg.svd(small_left @ small_right.T)
    rank = keep.rank_for(values)
    root = values[:rank].sqrt()
    new_up = left @ u[:, :rank] * root
    new_down = root[:, None] * (vh[:rank] @ right.T)
    return new_down.float().contiguous(), new_up.float().contiguous()


def _safe(root: torch.Tensor) -> torch.Tensor:
    """Without a division by nothing: where σ is nothing, so is what is divided."""
    return root.where(root > 0, torch.ones_like(root))
