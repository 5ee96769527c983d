"""The noise schedule of the forward process. Symbols as in Ho et al., Denoising Diffusion Probabilistic Models, arXiv 2006.11239."""

from __future__ import annotations

import torch

STEPS = 1000


def scaled_linear(beta_start: float = 0.00085, beta_end: float = 0.012, steps: int = STEPS) -> torch.Tensor:
    """ᾱ of Stable Diffusion 1.x: betas linear in their square root. Returns [steps] float32."""
    betas = torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64) ** 2
    return torch.cumprod(1.0 - betas, dim=0).float()


def _at(alphas_cumprod: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    return alphas_cumprod[timesteps].view(-1, 1, 1, 1)


def add_noise(latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor, alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """x_t = sqrt(ᾱ_t) x_0 + sqrt(1 − ᾱ_t) ε.

    Args:
        latents, noise: [b, 4, h, w] float32.
        timesteps: [b] int64.
        alphas_cumprod: [1000] float32.
    """
    alpha = _at(alphas_cumprod, timesteps)
    return alpha.sqrt() * latents + (1 - alpha).sqrt() * noise


def velocity(latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor, alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """v = sqrt(ᾱ_t) ε − sqrt(1 − ᾱ_t) x_0. Salimans and Ho, Progressive Distillation, arXiv 2202.00512."""
    alpha = _at(alphas_cumprod, timesteps)
    return alpha.sqrt() * noise - (1 - alpha).sqrt() * latents


def snr(alphas_cumprod: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """Signal to noise ratio ᾱ_t / (1 − ᾱ_t), [b]."""
    alpha = alphas_cumprod[timesteps]
    return alpha / (1 - alpha)
