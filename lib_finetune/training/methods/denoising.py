"""The denoising step that all methods share: noise a batch of latents, predict, compare."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from lib_finetune.model import noise_schedule
from lib_finetune.training.functional import losses, noise, weighting
from lib_finetune.transfer import on_device

if TYPE_CHECKING:
    from lib_finetune.data.batches import Batch
    from lib_finetune.text.prompts import TextEncoder


@dataclass(frozen=True)
class DenoisingObjective:
    """How predictions are compared; fields as the settings of the same names."""

    loss: str = "mse"
    huber_c: float = 0.1
    min_snr_gamma: float = 5.0
    noise_offset: float = 0.0
    timestep_min: int = 0
    timestep_max: int = 999


def weighted(values: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Losses per sample → mean over the subject's images plus, with class images, their weighted mean (prior preservation).

    Ruiz et al., DreamBooth, arXiv 2208.12242, equation 2.

    Args:
        values: [b].
    """
    weight = on_device(batch.weight, values.device)
    subjects = max(1, len(batch.prior) - sum(batch.prior))
    return (values * weight).sum() / subjects


@dataclass(frozen=True)
class Teacher:
    """The base model, whose own predictions are the targets of some samples.

    Attributes:
        count: how many samples at the end of the batch it teaches.
        at_work: inside, the UNet and the text encoder are the base's.
        cond: their conditioning by the base's text encoder, [count, tokens, width].
    """

    count: int
    at_work: Callable[[], AbstractContextManager[None]]
    cond: Callable[[], torch.Tensor]


@dataclass(frozen=True)
class PriorPrediction:
    """Prior preservation without class images: a caption without its identifier keeps the meaning that it has for the base.

    The noised latents are the subject's own: the term keeps the meaning of the words, and the base model itself tells that
    meaning best. It is knowledge distillation in place of drawn class images (OneTrainer's "prior prediction").

    Attributes:
        caption: caption of an image → the caption as it describes the class ("a photo of sks dog on a beach" → "a photo of dog on a beach").
            Were only the bare class held, the subject would leak into it wherever the captions' other words stand.
        weight: λ of Ruiz et al., equation 2.
        base: as `Teacher.at_work`.
    """

    caption: Callable[[str], str]
    weight: float
    base: Callable[[], AbstractContextManager[None]]


def batch_loss(
    denoiser: Denoiser, text: TextEncoder, batch: Batch, generator: torch.Generator, prior: PriorPrediction | None = None
) -> torch.Tensor:
    """`weighted` loss of a batch, with its prior term where one is asked for."""
    if prior is None:
        return weighted(denoiser.losses(batch.mean, batch.std, text.encode(batch.captions), generator, mask=batch.mask), batch)
    count = len(batch.captions)
    captions = [prior.caption(caption) for caption in batch.captions]
    teacher = Teacher(count, prior.base, lambda: text.encode(captions, among=batch.captions))
    mean, std = torch.cat([batch.mean] * 2), torch.cat([batch.std] * 2)
    mask = None if batch.mask is None else torch.cat([batch.mask, torch.ones_like(batch.mask)])  # the class is kept everywhere
    values = denoiser.losses(mean, std, text.encode([*batch.captions, *captions]), generator, teacher, mask)
    own, class_values = values.split(count)
    return own.mean() + prior.weight * class_values.mean()


class Denoiser:
    """Latents of a batch to a loss per sample, through the borrowed UNet."""

    def __init__(
        self, unet: Any, alphas_cumprod: torch.Tensor, scale_factor: float, prediction: str, objective: DenoisingObjective
    ) -> None:
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

    @property
    def device(self) -> torch.device:
        """The device on which it computes."""
        return self._alphas_cumprod.device

    def losses(
        self,
        mean: torch.Tensor,
        std: torch.Tensor,
        cond: torch.Tensor,
        generator: torch.Generator,
        teacher: Teacher | None = None,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Loss per sample, [b] float32.

        Args:
            mean, std: posterior of the autoencoder, [b, 4, h, w] float32 on the CPU.
            cond: [b, tokens, width] on the UNet's device.
            generator: on the CPU, so that a seed means the same on every device.
            teacher: gives the last samples' targets.
            mask: weights of the loss at each place, [b, 1, h, w] float32 on the CPU; None counts all alike.
        """
        aim = self._objective
        latents = (mean + std * noise.gaussian(tuple(mean.shape), 0.0, generator)) * self._scale_factor
        drawn = noise.gaussian(tuple(mean.shape), aim.noise_offset, generator)
        timesteps = noise.timesteps(len(mean), aim.timestep_min, aim.timestep_max, generator)
        latents, drawn, timesteps = (on_device(value, self.device) for value in (latents, drawn, timesteps))
        noisy = noise_schedule.add_noise(latents, drawn, timesteps, self._alphas_cumprod)
        target = self._target(latents, drawn, timesteps)
        if teacher:
            last = slice(-teacher.count, None)
            with torch.no_grad(), teacher.at_work():
                target = torch.cat([target[: -teacher.count], self._predict(noisy[last], timesteps[last], teacher.cond())])
        places = None if mask is None else mask.to(self.device, non_blocking=True)
        return self._compare(self._predict(noisy, timesteps, cond), target, timesteps, places)

    def _predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        dtype = self._unet.conv_norm_out.weight.dtype  # the base's, of which the convolutions may have copies in another
        prediction: torch.Tensor = self._unet(noisy.to(dtype), timesteps, cond.to(dtype)).sample.float()
        return prediction

    def _target(self, latents: torch.Tensor, drawn: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        if self._prediction == "v_prediction":
            return noise_schedule.velocity(latents, drawn, timesteps, self._alphas_cumprod)
        return drawn

    def _compare(self, prediction: torch.Tensor, target: torch.Tensor, timesteps: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        aim = self._objective
        values = losses.mse(prediction, target, mask) if aim.loss == "mse" else losses.huber(prediction, target, aim.huber_c, mask)
        if aim.min_snr_gamma:
            values = values * weighting.min_snr(noise_schedule.snr(self._alphas_cumprod, timesteps), aim.min_snr_gamma, self._prediction)
        return values
