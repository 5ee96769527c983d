"""How well a model paints the drawn world: pictures from prompts, the judge's score, a grid to look at."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import judge, layout, statistics
from .autoencoder import to_pictures
from .captions import full_caption
from .tokens import encode
from .world import PATTERNS, SIZE_PX, Scene, random_scene

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

logger = logging.getLogger(__name__)


def paint(
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    text: CLIPTextModel,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    steps: int = 20,
    guidance: float = 6.0,
    batch: int = 25,
    encode: Callable[[list[str]], torch.Tensor] = encode,
) -> np.ndarray:
    """Paint prompts with DPM++ 2M (arXiv:2211.01095, eq. multistep 2 of data prediction): [n, 128, 128, 3] uint8.

    Args:
        encode: prompts → token ids.
    """
    import torch

    pictures = []
    with torch.no_grad():
        for first in range(0, len(prompts), batch):
            part = list(prompts[first : first + batch])
            context = text(encode([*part, *[""] * len(part)])).last_hidden_state
            noise = torch.stack([start_noise(seed) for seed in seeds[first : first + batch]])
            latents = _denoise(unet, context, noise, steps, guidance)
            pictures.append(np.concatenate([to_pictures(vae.decode(piece / layout.LATENT_SCALE).sample) for piece in latents.split(5)]))
    return np.concatenate(pictures)


def start_noise(seed: int) -> torch.Tensor:
    """The noise that a seed stands for: [4, 16, 16]."""
    import torch

    return torch.randn(4, SIZE_PX // 8, SIZE_PX // 8, generator=torch.Generator().manual_seed(seed))


def _denoise(unet: UNet2DConditionModel, context: torch.Tensor, noise: torch.Tensor, steps: int, guidance: float) -> torch.Tensor:
    """Classifier-free guidance with DPM++ 2M: context holds the prompts, then as many empty ones."""
    import torch

    from lib_finetune.model.noise_schedule import scaled_linear

    alphas = scaled_linear()
    timesteps = torch.linspace(len(alphas) - 1, 0, steps + 1).round().long()
    x, previous, last_step = noise, None, 0.0
    for index in range(steps):
        now, then = alphas[timesteps[index]], alphas[timesteps[index + 1]]
        with_prompt, without = unet(torch.cat([x, x]), timesteps[index], context).sample.chunk(2)
        eps = without + guidance * (with_prompt - without)
        clean = (x - (1 - now).sqrt() * eps) / now.sqrt()
        lambda_step = float(0.5 * (torch.log(then / (1 - then)) - torch.log(now / (1 - now))))
        guess = clean
        if previous is not None:
            guess = clean + (clean - previous) * (lambda_step / last_step / 2)
        x = ((1 - then) / (1 - now)).sqrt() * x - then.sqrt() * math.expm1(-lambda_step) * guess
        previous, last_step = clean, lambda_step
    return previous if previous is not None else x


def exam(count: int, seed: int = 77) -> list[Scene]:
    """Scenes whose full captions are the test prompts: shape, colours and patterns at random, never seen as pictures."""
    rng = np.random.default_rng(seed)
    return [random_scene(rng, pattern=str(rng.choice(PATTERNS, p=(0.6, 0.2, 0.2)))) for _ in range(count)]


def score(pictures: np.ndarray, scenes: Sequence[Scene], by: judge.Judge) -> dict[str, float]:
    """Share of pictures in which the judge sees what was asked for: per attribute, and shape, colour and ground together."""
    verdicts = by.look(pictures)
    names = ("shape", "colour", "ground", "pattern")
    shares = {name: float(np.mean([v.agrees(s, (name,)) for v, s in zip(verdicts, scenes, strict=True)])) for name in names}
    together = statistics.share([v.agrees(s) for v, s in zip(verdicts, scenes, strict=True)])
    return {**shares, "together": together.value, "low": together.low, "high": together.high, "pictures": len(scenes)}


def report(
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    text: CLIPTextModel,
    stem: Path,
    *,
    count: int,
    by: judge.Judge,
    steps: int = 20,
    guidance: float = 6.0,
) -> dict[str, float]:
    """Paint the exam, write ``stem``.json (score) and ``stem``.png (the first 40 pictures), return the score."""
    scenes = exam(count)
    pictures = paint(unet, vae, text, [full_caption(scene) for scene in scenes], range(count), steps=steps, guidance=guidance)
    result = score(pictures, scenes, by)
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".json").write_text(json.dumps(result, indent=2), encoding="utf-8")
    write_grid(pictures[:40], stem.with_suffix(".png"))
    logger.info("%s: %s", stem.name, {name: round(value, 3) for name, value in result.items()})
    return result


def write_grid(pictures: np.ndarray, path: Path, columns: int = 8) -> None:
    """Write pictures [n, h, w, 3] in rows; what does not fill a row is left out, unless there is only one."""
    from PIL import Image

    columns = min(columns, len(pictures))
    rows = [np.concatenate(list(pictures[first : first + columns]), 1) for first in range(0, len(pictures) - columns + 1, columns)]
    Image.fromarray(np.concatenate(rows)).save(path)
