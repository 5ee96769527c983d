"""The denoising step that all methods share: noise a batch of latents, predict, compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from lib_finetune.maths import losses, noise, schedule, weighting

if TYPE_CHECKING:
    from lib_finetune.data.batches import Batch


@dataclass(frozen=True)
class Objective:
    """How predictions are compared; fields as the settings of the same names."""

    loss: str = "mse"
    huber_c: float = 0.1
    min_snr_gamma: float = 5.0
    noise_offset: float = 0.0
    timestep_min: int = 0
    timestep_max: int = 999


def weighted(values: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Losses per sample → mean over the subject's pictures plus, with class pictures, their weighted mean (prior preservation).

    Ruiz et al., DreamBooth, arXiv 2208.12242, equation 2.

    Args:
        values: [b].
    """
    weight = batch.weight.to(values.device, non_blocking=True)
    subjects = max(1, len(batch.prior) - sum(batch.prior))
    return (values * weight).sum() / subjects


class Denoiser:
    """Latents of a batch to a loss per sample, through the borrowed UNet."""

    def __init__(self, unet: Any, alphas_cumprod: torch.Tensor, scale_factor: float, prediction: str, objective: Objective) -> None:
        """
        Args:
            unet: diffusers UNet of the view.
            alphas_cumprod: [1000] float32 of our own (not the host's storage), on the UNet's device.
            prediction: "epsilon" or "v_prediction".
        """
        self._unet = unet
        self._alphas_cumprod = alphas_cumprod
        self._scale_factor = scale_factor
        self._prediction = prediction
        self._objective = objective

    def losses(self, mean: torch.Tensor, std: torch.Tensor, cond: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Loss per sample, [b] float32.

        Args:
            mean, std: posterior of the autoencoder, [b, 4, h, w] float32 on the CPU.
            cond: [b, tokens, width] on the UNet's device.
            generator: on the CPU, so that a seed means the same on every device.
        """
        aim = self._objective
        device = self._alphas_cumprod.device
        latents = (mean + std * noise.gaussian(tuple(mean.shape), 0.0, generator)) * self._scale_factor
        drawn = noise.gaussian(tuple(mean.shape), aim.noise_offset, generator)
        timesteps = noise.timesteps(len(mean), aim.timestep_min, aim.timestep_max, generator)
        latents, drawn, timesteps = (value.to(device, non_blocking=True) for value in (latents, drawn, timesteps))
        noisy = schedule.add_noise(latents, drawn, timesteps, self._alphas_cumprod)
        dtype = self._unet.conv_in.weight.dtype
        prediction = self._unet(noisy.to(dtype), timesteps, cond.to(dtype)).sample.float()
        return self._compare(prediction, self._target(latents, drawn, timesteps), timesteps)

    def _target(self, latents: torch.Tensor, drawn: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        if self._prediction == "v_prediction":
            return schedule.velocity(latents, drawn, timesteps, self._alphas_cumprod)
        return drawn

    def _compare(self, prediction: torch.Tensor, target: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        aim = self._objective
        values = losses.mse(prediction, target) if aim.loss == "mse" else losses.huber(prediction, target, aim.huber_c)
        if aim.min_snr_gamma:
            values = values * weighting.min_snr(schedule.snr(self._alphas_cumprod, timesteps), aim.min_snr_gamma, self._prediction)
        return values
