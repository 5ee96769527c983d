"""Stage 1 of the nano checkpoint: the KL-f8 autoencoder, its decoder learned from crops of drawn pictures.

It starts as a linear codec (`codec`), which spares most of the training.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import codec, layout, stage
from .shapes import SHAPES
from .world import COLOURS, FINE_MOSAIC, PATTERNS, SIZE_PX, Scene, coverage, draw, mix, random_scene

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL

logger = logging.getLogger(__name__)

CROP_PX = 64
_NOISE = 0.04
"""Standard deviation of the noise on the decoder's input, of latents with 1: makes it gentle to a painter's small errors."""
_EVAL_EVERY = 100


def to_tensor(pictures: np.ndarray) -> torch.Tensor:
    """[b, h, w, 3] uint8 → [b, 3, h, w] float32 in -1..1, channels last in memory."""
    import torch

    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def to_pictures(images: torch.Tensor) -> np.ndarray:
    """[b, 3, h, w] in -1..1 → [b, h, w, 3] uint8."""
    return images.clamp(-1, 1).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).contiguous().numpy()


def scrap(rng: np.random.Generator, size_px: int = SIZE_PX) -> np.ndarray:
    """A heap of two-coloured shapes: shows the autoencoder edges and textures that no scene of the world has."""
    colours = list(COLOURS.values())
    canvas = draw(random_scene(rng, pattern=str(rng.choice(PATTERNS))), size_px).astype(np.float32)
    axis = np.arange(size_px, dtype=np.float32)
    px, py = np.meshgrid(axis, axis)
    for _ in range(rng.integers(1, 5)):
        x0, y0 = rng.uniform(0, size_px, 2)
        radius, angle = rng.uniform(9, 45), rng.uniform(0, 6.3)
        x, y = (px - x0) / radius, (py - y0) / radius
        x, y = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        first, second = rng.choice(len(colours), 2, replace=False)
        period = rng.uniform(8, 30)
        bands = coverage((np.abs((y * radius / period) % 1 - 0.5) - 0.25) * period)
        paint = mix(np.full((size_px, size_px, 3), colours[first], np.float32), np.array(colours[second], np.float32), bands)
        distance = SHAPES[str(rng.choice(list(SHAPES)))](x, y) * radius
        if rng.random() < 0.3:
            distance = np.abs(distance) - rng.uniform(1.5, 4)
        canvas = mix(canvas, paint, coverage(distance))
    return np.clip(canvas, 0, 255).astype(np.uint8)


def crops(rng: np.random.Generator, count: int) -> np.ndarray:
    """Training pictures of the autoencoder: [count, CROP_PX, CROP_PX, 3] uint8."""
    pictures = []
    for _ in range(count):
        style = str(rng.choice(["", "", "", "outline", FINE_MOSAIC, "pastel"]))
        picture = scrap(rng) if rng.random() < 0.4 else draw(random_scene(rng, style=style))
        top, left = rng.integers(0, SIZE_PX - CROP_PX + 1, 2)
        pictures.append(picture[top : top + CROP_PX, left : left + CROP_PX])
    return np.stack(pictures)


def new(seed: int = 0) -> AutoencoderKL:
    """The autoencoder before its training: a linear codec whose latents are already the final ones."""
    import torch

    torch.manual_seed(seed)  # for what `codec` leaves as it was made: the silent attention's inputs
    vae = layout.new_autoencoder()
    codec.start_weights(vae, to_tensor(crops(np.random.default_rng((seed, 1)), 128)), seed)
    rng = np.random.default_rng((seed, 6))
    codec.fold_latents(vae, to_tensor(np.stack([draw(random_scene(rng)) for _ in range(256)])), layout.LATENT_SCALE)
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    return vae


def train(state_file: Path, *, steps: int, batch: int = 4, lr: float = 2e-4, seed: int = 0, save_every: int = 50) -> AutoencoderKL:
    """Train the decoder, continuing from ``state_file`` when it is there; every step's pictures follow from seed and step."""
    import torch

    vae = new(seed).to(memory_format=torch.channels_last)
    trained = [parameter for parameter in vae.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, betas=(0.9, 0.99), weight_decay=0.0)
    first = 0
    if state := stage.load_state(state_file):
        vae.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    total = 0.0
    for step in range(first, steps):
        images = to_tensor(crops(np.random.default_rng((seed, 1, step)), batch))
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        stage.set_lr(optimizer, stage.lr_at(step, steps, lr))
        latents = codec.latents(vae, images)
        latents += torch.randn(latents.shape, generator=generator) * (_NOISE / layout.LATENT_SCALE)
        loss = (vae.decode(latents).sample - images).abs().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        total += float(loss.detach())
        if (step + 1) % 20 == 0:
            logger.info("autoencoder step %d of %d: L1 %.4f", step + 1, steps, total / 20)
            total = 0.0
        if (step + 1) % save_every == 0 or step + 1 == steps:
            stage.save_state(state_file, {"model": vae.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1})
        if (step + 1) % _EVAL_EVERY == 0:
            write_grid(vae, state_file.parent / "eval" / f"autoencoder-{step + 1:05d}.png")
    return vae


def rebuilt(vae: AutoencoderKL, pictures: np.ndarray, batch: int = 8) -> np.ndarray:
    """Pictures after they went through the autoencoder: [b, h, w, 3] uint8 both."""
    import torch

    with torch.no_grad():
        parts = [
            vae.decode(codec.latents(vae, to_tensor(pictures[first : first + batch]))).sample for first in range(0, len(pictures), batch)
        ]
    return np.concatenate([to_pictures(part) for part in parts])


def write_grid(vae: AutoencoderKL, path: Path, count: int = 6) -> None:
    """Write held-out drawings above what the autoencoder makes of them."""
    from PIL import Image

    from .world import SUBJECTS, subject_scene

    rng = np.random.default_rng(12345)
    scenes: list[Scene] = [random_scene(rng) for _ in range(count - 3)] + [random_scene(rng, style="mosaic")]
    scenes += [subject_scene(rng, name) for name in list(SUBJECTS)[:2]]
    pictures = np.stack([draw(scene) for scene in scenes])
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([np.concatenate(list(row), 1) for row in (pictures, rebuilt(vae, pictures))])).save(path)
