"""Weights of the noise levels."""

from __future__ import annotations

import torch


def min_snr(snr: torch.Tensor, gamma: float, prediction: str) -> torch.Tensor:
    """min(SNR, γ) / SNR for ε prediction and min(SNR, γ) / (SNR + 1) for v prediction, [b].

    Hang et al., Efficient Diffusion Training via Min-SNR Weighting Strategy, arXiv 2303.09556, section 3.4.
    """
    clamped = snr.clamp(max=gamma)
    return clamped / (snr + 1) if prediction == "v_prediction" else clamped / snr
