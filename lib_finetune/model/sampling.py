"""Images from the borrowed model without the WebUI: DPM-Solver++ (2M) with Karras sigmas, classifier-free guidance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image
from torch import nn

from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.text.prompts import TextEncoder


@torch.no_grad()
def sample(
    model: BorrowedModel,
    text: TextEncoder,
    prompt: str,
    *,
    negative_prompt: str = "",
    size: tuple[int, int],
    steps: int,
    guidance: float,
    seeds: Sequence[int],
    prediction: str = "epsilon",
    scale_factor: float = 0.18215,
    before_step: Callable[[int], None] = lambda _: None,
) -> list[Image.Image]:
    """An image for each seed, in one batch.

    Args:
        model: bound to weights.
        text: its text encoder.
        size: (width, height) in px, multiples of 8.
        guidance: scale of classifier-free guidance, Ho and Salimans, arXiv 2207.12598.
        seeds: of the starting noise, drawn on the CPU in fp32, so that it is the same on every device.
        before_step: called with the sampling steps that are done, before each of them and before each decoding; what it raises ends it.
    """
    scheduler = _scheduler(prediction, steps)
    weight = model.unet.conv_in.weight
    cond = text.encode([negative_prompt, prompt]).repeat_interleave(len(seeds), dim=0)
    shape = (1, 4, size[1] // 8, size[0] // 8)
    noise = torch.cat([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    latents = noise.to(weight.device) * scheduler.init_noise_sigma
    for done, timestep in enumerate(scheduler.timesteps):
        before_step(done)
        both = scheduler.scale_model_input(torch.cat([latents, latents]), timestep)
        output = model.unet(both.to(weight.dtype), timestep, cond.to(weight.dtype)).sample.float()
        without, with_prompt = output.chunk(2)
        latents = scheduler.step(without + guidance * (with_prompt - without), timestep, latents).prev_sample
    images = []
    for own in latents.split(1):
        before_step(steps)
        images.append(decode(model, own, scale_factor))
    return images


def _scheduler(prediction: str, steps: int) -> Any:
    from diffusers import DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", use_karras_sigmas=True, prediction_type=prediction
    )
    scheduler.set_timesteps(steps)
    return scheduler


def decode(model: BorrowedModel, latents: torch.Tensor, scale_factor: float) -> Image.Image:
    """Latents [1, 4, h/8, w/8] float32 → RGB image."""
    vae = model.vae

    def pixels_of() -> torch.Tensor:
        pixels: torch.Tensor = vae.decode((latents / scale_factor).to(vae.post_quant_conv.weight.dtype)).sample.float().cpu()
        return pixels

    (pixels,) = _finite(model, (vae.decoder, vae.post_quant_conv), lambda: (pixels_of(),))
    shades = ((pixels[0].permute(1, 2, 0) / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(shades.numpy())


@torch.no_grad()
def encode(model: BorrowedModel, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of the autoencoder's posterior, not scaled; in its own precision, whatever autocast says.

    Args:
        pixels: [1, 3, h, w] float32 in −1 … 1 on the CPU.

    Returns:
        mean, std: each [1, 4, h/8, w/8] float32 on the CPU.
    """
    vae = model.vae

    def moments() -> tuple[torch.Tensor, ...]:
        weight = vae.quant_conv.weight
        with torch.autocast(weight.device.type, enabled=False):
            posterior = vae.encode(pixels.to(weight.device, weight.dtype)).latent_dist
        return posterior.mean.float().cpu(), posterior.std.float().cpu()

    mean, std = _finite(model, (vae.encoder, vae.quant_conv), moments)
    return mean, std


def _finite(
    model: BorrowedModel, modules: Sequence[nn.Module], compute: Callable[[], tuple[torch.Tensor, ...]]
) -> tuple[torch.Tensor, ...]:
    """What the autoencoder computes, with these modules in float32 where it overflows in 16 bits, as the WebUI does it, too."""
    values = compute()
    if all(bool(value.isfinite().all()) for value in values) or model.vae.quant_conv.weight.dtype == torch.float32:
        return values
    with model.in_float32(*modules):
        return compute()
