"""The painter's training set: drawn scenes and their latents, kept in parts that a killed run finds again."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import codec, layout
from .autoencoder import to_tensor
from .world import Scene, draw, random_scene

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL

logger = logging.getLogger(__name__)

PART = 1000


def prepare(folder: Path, vae: AutoencoderKL, count: int, seed: int = 0, style: str = "") -> None:
    """Draw and encode ``count`` scenes into ``folder``; parts that are there already stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count // PART):
        path = folder / f"{index:04d}.npz"
        if path.is_file():
            continue
        rng = np.random.default_rng((seed, 2, index))
        scenes = [random_scene(rng, style=style) for _ in range(PART)]
        latents = np.concatenate([_encode(vae, draw(scene)) for scene in scenes])
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.savez(file, latents=latents.astype(np.float16), scenes=json.dumps([asdict(scene) for scene in scenes]))
        part.replace(path)
        logger.info("latents: %d of %d", (index + 1) * PART, count)


def _encode(vae: AutoencoderKL, picture: np.ndarray) -> np.ndarray:
    """One picture → its latents as the UNet sees them: [1, 4, h/8, w/8]."""
    return codec.latents(vae, to_tensor(picture[None])).numpy() * layout.LATENT_SCALE


def read(folder: Path) -> tuple[torch.Tensor, list[Scene]]:
    """Read all parts: latents [n, 4, 16, 16] float32 and the scene of each."""
    import torch

    latents, scenes = [], []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as part:
            latents.append(torch.from_numpy(part["latents"].astype(np.float32)))
            scenes += [Scene(**fields) for fields in json.loads(str(part["scenes"]))]
    return torch.cat(latents), scenes
