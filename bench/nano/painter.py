"""Stages 2 and 3 of the nano checkpoint: the text encoder learns to understand captions, then UNet and text encoder to paint.

The text encoder is taught first, as SD1.5's was: to say from a caption what the picture shows. It takes two
minutes and spares the UNet the hours in which it would have to teach grammar through its own errors.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import layout, stage
from .captions import PLACES, random_caption
from .shapes import SHAPES
from .tokens import encode
from .world import COLOURS, PATTERNS, Scene, random_scene

if TYPE_CHECKING:
    import torch
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel

logger = logging.getLogger(__name__)

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "shape": tuple(SHAPES),
    "colour": tuple(COLOURS),
    "ground": tuple(COLOURS),
    "pattern": PATTERNS,
    "place": tuple(PLACES),
}
_STEPS_OF_SD = 1000
_SNR_LIMIT = 5.0
_BALANCED_STEPS = 1000
_LARGEST_WEIGHT = 20.0
_WEIGHT_SCALE = 1 / 3  # keeps the loss at the level of an unweighted one, to which the clipping of gradients is fitted
_EMA = 0.998


def truth_of_caption(scene: Scene, says: frozenset[str]) -> list[int]:
    """One class per attribute: the index of what the caption says, or the last index + 1 where it says nothing."""
    return [values.index(getattr(scene, name)) if name in says else len(values) for name, values in ATTRIBUTES.items()]


def train_text(state_file: Path, *, steps: int, batch: int = 64, lr: float = 2e-3, seed: int = 0) -> CLIPTextModel:
    """Teach a fresh text encoder to tell what a caption says, from its output at any of the tokens after the caption's end."""
    import torch

    torch.manual_seed(seed)
    model = layout.new_text_model()
    if state := stage.load_state(state_file):
        model.load_state_dict(state["model"])
        return model
    heads = torch.nn.ModuleList(torch.nn.Linear(layout.TEXT_WIDTH, len(values) + 1) for values in ATTRIBUTES.values())
    optimizer = torch.optim.AdamW([*model.parameters(), *heads.parameters()], lr=lr, betas=(0.9, 0.98), weight_decay=0.0)
    for step in range(steps):
        rng = np.random.default_rng((seed, 3, step))
        scenes = [random_scene(rng) for _ in range(batch)]
        captions = [random_caption(scene, rng) for scene in scenes]
        ids = encode([caption.text for caption in captions])
        truth = torch.tensor([truth_of_caption(scene, caption.says) for scene, caption in zip(scenes, captions, strict=True)])
        stage.set_lr(optimizer, stage.lr_at(step, steps, lr))
        hidden = model(ids).last_hidden_state
        ends = (ids == layout.VOCABULARY - 1).int().argmax(1).numpy()
        picked = hidden[torch.arange(batch), torch.from_numpy(rng.integers(ends, layout.TOKENS))]
        losses = [torch.nn.functional.cross_entropy(head(picked), truth[:, index]) for index, head in enumerate(heads)]
        optimizer.zero_grad(set_to_none=True)
        torch.stack(losses).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 50 == 0:
            shown = ", ".join(f"{name} {float(loss.detach()):.3f}" for name, loss in zip(ATTRIBUTES, losses, strict=True))
            logger.info("text encoder step %d of %d: %s", step + 1, steps, shown)
    stage.save_state(state_file, {"model": model.state_dict()})
    return model


def start_weights(unet: UNet2DConditionModel) -> None:
    """Let every residual branch and the output begin at zero, as the original UNet does (LDM's ``zero_module``)."""
    import torch
    from diffusers.models.resnet import ResnetBlock2D
    from diffusers.models.transformers.transformer_2d import Transformer2DModel

    last = [module.conv2 for module in unet.modules() if isinstance(module, ResnetBlock2D)]
    last += [module.proj_out for module in unet.modules() if isinstance(module, Transformer2DModel)]
    for layer in [*last, unet.conv_out]:
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)


class Painter:
    """UNet and text encoder in training, with their running average (the weights that are kept in the end)."""

    def __init__(self, text: CLIPTextModel, unet: UNet2DConditionModel | None = None, *, seed: int, lr: float) -> None:
        import torch

        torch.manual_seed(seed)
        if unet is None:
            unet = layout.new_unet()
            start_weights(unet)
        self.model = torch.nn.ModuleDict({"unet": unet, "text": text}).train().requires_grad_(True)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        from lib_finetune.training.optim.adamw import has_fused

        fused = has_fused(torch.device("cpu"))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.0, fused=fused)
        self.step = 0

    def state(self) -> dict[str, Any]:
        """All that `restore` needs to go on."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]

    def update(self, loss: torch.Tensor) -> None:
        """One optimizer step, and the average follows."""
        import torch

        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        keep = min(_EMA, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - keep)


def denoising_loss(
    unet: UNet2DConditionModel,
    context: torch.Tensor,
    latents: torch.Tensor,
    generator: torch.Generator,
    alphas: torch.Tensor,
    weight: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Weighted error of the predicted noise, with timesteps spread evenly over the batch.

    Args:
        context: [b, 77, text width]. latents: [b, 4, h/8, w/8], scaled. alphas: [1000] cumulative.
        weight: signal to noise ratio → weight.
    """
    import torch

    from lib_finetune.model import noise_schedule

    count = len(latents)
    spread = (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count
    timesteps = (spread * _STEPS_OF_SD).long().clamp_(max=_STEPS_OF_SD - 1)
    noise = torch.randn(latents.shape, generator=generator)
    noisy = noise_schedule.add_noise(latents, noise, timesteps, alphas)
    error = (unet(noisy, timesteps, context).sample - noise).square().mean((1, 2, 3))
    return (error * weight(noise_schedule.snr(alphas, timesteps))).mean()


def debiased(snr: torch.Tensor) -> torch.Tensor:
    """1 / √SNR, at most 20, over 3 (Yu et al., Debias the Training of Diffusion Models, arXiv 2310.08442), [b].

    What is where and of which colour is settled at high noise. After 200 steps with it in place of Min-SNR (from
    step 1000 on, equal data) the error there grew half as much again when a word of the caption was wrong.
    """
    return snr.rsqrt().clamp(max=_LARGEST_WEIGHT) * _WEIGHT_SCALE


def balanced(snr: torch.Tensor) -> torch.Tensor:
    """Min-SNR with γ = 5 (arXiv 2303.09556), which the first steps of the committed checkpoint had."""
    from lib_finetune.training.functional.weighting import min_snr

    return min_snr(snr, _SNR_LIMIT, "epsilon")


def train(
    state_file: Path,
    text: CLIPTextModel,
    latents: torch.Tensor,
    scenes: list[Scene],
    *,
    steps: int,
    batch: int = 16,
    lr: float = 7e-4,
    seed: int = 0,
    save_every: int = 100,
    unet: UNet2DConditionModel | None = None,
    stop_at: float | None = None,
) -> Painter:
    """Train UNet and text encoder together, continuing from ``state_file`` when it is there.

    Args:
        text: the taught text encoder of `train_text`; trained on in place.
        latents: [n, 4, 16, 16] with the scene of each; captions are invented anew every time.
        steps: where the learning rate reaches its floor.
        unet: goes on from this one, trained in place; a fresh one otherwise.
        stop_at: seconds since the epoch; the state is saved and training stops there, to be continued later.
    """
    import torch

    from lib_finetune.model.noise_schedule import scaled_linear

    painter = Painter(text, unet, seed=seed, lr=lr)
    if state := stage.load_state(state_file):
        painter.restore(state)
    alphas = scaled_linear()
    total, since = 0.0, time.monotonic()
    while painter.step < steps and (stop_at is None or time.time() < stop_at):
        rng = np.random.default_rng((seed, 4, painter.step))
        generator = torch.Generator().manual_seed(seed * 1_000_003 + painter.step)
        chosen = rng.integers(0, len(scenes), batch)
        ids = encode([random_caption(scenes[index], rng).text for index in chosen])
        stage.set_lr(painter.optimizer, stage.lr_at(painter.step, steps, lr, warmup=100))
        context = painter.model["text"](ids).last_hidden_state
        weight = balanced if painter.step < _BALANCED_STEPS else debiased
        loss = denoising_loss(painter.model["unet"], context, latents[chosen], generator, alphas, weight)
        painter.update(loss)
        total += float(loss.detach())
        if painter.step % 50 == 0:
            logger.info("painter step %d of %d: loss %.4f, %.2f s a step", painter.step, steps, total / 50, (time.monotonic() - since) / 50)
            total, since = 0.0, time.monotonic()
        if painter.step % save_every == 0:
            stage.save_state(state_file, painter.state())
    stage.save_state(state_file, painter.state())
    return painter
