"""What a run takes and what it begins with: memory, disk and the words that stand for the subject, looked at before the first step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from lib_finetune.config.fields import replaced
from lib_finetune.config.settings import Settings, keeps_states
from lib_finetune.engine import precision
from lib_finetune.model import layout
from lib_finetune.model.learned import ids_of
from lib_finetune.optim import footprint
from lib_finetune.resolution import prior_of

if TYPE_CHECKING:
    from lib_finetune.ports import Lease


def sizes(lease: Lease) -> dict[str, int]:
    """How many weights the parts have that DreamBooth trains: "unet", "text"."""
    prefixes = {"unet": layout.UNET, "text": layout.TEXT}
    return {part: sum(t.numel() for name, t in lease.tensors.items() if name.startswith(prefix)) for part, prefix in prefixes.items()}


LEVERS = ("tuning.weights", "tuning.in_backward", "optimizer.name", "training.gradient_checkpointing")
"""What `sparing` and `formed` choose."""


def sparing(settings: Settings, device: torch.device, free: int) -> tuple[Settings, list[str]]:
    """The settings with gradient checkpointing switched on where the memory is too short without it, and what is to be said about it.

    Args:
        free: bytes beside the host's model; 0 where the system does not tell.
    """
    training = settings.training
    need = passing(replaced(settings, "training.gradient_checkpointing", False), device)
    if training.gradient_checkpointing or not free or free >= need:
        return settings, []
    said = f"Gradient checkpointing is on: a step needs about {need / footprint.GIB:.1f} GiB without it, and {free / footprint.GIB:.1f} are free."
    return replaced(settings, "training.gradient_checkpointing", True), [said]


def passing(settings: Settings, device: torch.device) -> int:
    """Bytes that a step of patches or of an embedding holds besides what it trains; class pictures count, too."""
    training = settings.training
    pictures = training.batch * (2 if prior_of(settings) == "pictures" else 1)
    return footprint.passing(settings.data.resolution**2 * pictures, _sixteen_bit(settings, device), training.gradient_checkpointing)


def _sixteen_bit(settings: Settings, device: torch.device) -> bool:
    return device.type == "cuda" and settings.training.precision != "fp32"


def formed(settings: Settings, counts: Mapping[str, int], device: torch.device, free: int) -> tuple[Settings, str]:
    """DreamBooth's settings with the form of its weights chosen by the free memory, and a sentence on it.

    Args:
        counts: from `sizes`.
        free: bytes; see `footprint.choose`.

    Raises:
        InputError: nothing fits; with the figures.
    """
    work = _work(settings, counts, device)
    wish = _wish(settings, device)
    form = footprint.choose(wish, work, free)
    chosen = (form.weights, "on" if form.in_backward else "off", form.optimizer, form.checkpointing)
    for path, value in zip(LEVERS, chosen, strict=True):
        settings = replaced(settings, path, value)
    place = "on the card" if device.type == "cuda" else "of memory"
    said = (
        f"{work.weights / 1e6:.0f} million weights are trained: {form}. That takes about {form.need(work) / footprint.GIB:.1f} GiB {place}"
    )
    said += f"; {free / footprint.GIB:.1f} are free." if free else "."
    if form.in_backward and settings.optimizer.clip_norm:
        said += " Gradients are clipped layer by layer."
    return settings, said


def whole_bytes(settings: Settings, counts: Mapping[str, int], device: torch.device) -> int:
    """What a step of DreamBooth holds beside the host's model, its form chosen (`formed`)."""
    tuning = settings.tuning
    form = footprint.Form(tuning.weights, settings.optimizer.name, tuning.in_backward == "on", settings.training.gradient_checkpointing)
    return form.need(_work(settings, counts, device))


def _work(settings: Settings, counts: Mapping[str, int], device: torch.device) -> footprint.Work:
    training = settings.training
    trained = counts["unet"] + (counts["text"] if settings.tuning.text_encoder_until else 0)
    pictures = training.batch * (1 if prior_of(settings) == "off" else 2)
    return footprint.Work(trained, settings.data.resolution**2 * pictures, _sixteen_bit(settings, device), training.ema_decay > 0)


def state_bytes(settings: Settings, counts: Mapping[str, int]) -> int:
    """Of a saved state of DreamBooth, its form chosen."""
    trained = counts["unet"] + (counts["text"] if settings.tuning.text_encoder_until else 0)
    form = footprint.Form(settings.tuning.weights, settings.optimizer.name, True, True)
    return trained * form.bytes_kept * (2 if settings.training.ema_decay else 1)


FEWEST_STATES = 2
"""An older state stays until the next one is whole."""


def states_at_once(settings: Settings, views: int) -> int:
    """How many saved states lie on the disk at most.

    Args:
        settings: resolved.
        views: pictures an epoch shows.
    """
    saving, training, steps = settings.saving, settings.training, settings.training.steps or 0
    if keeps_states(settings) != "all":
        return FEWEST_STATES
    epoch = saving.every_epochs * views / (training.batch * training.accumulation)
    between = sum((steps - 1) // every for every in (saving.every_steps, epoch) if every)
    return FEWEST_STATES + int(min(between, saving.keep) if saving.keep else between)


def _wish(settings: Settings, device: torch.device) -> footprint.Wish:
    tuning, training = settings.tuning, settings.training
    open_backward = None if tuning.in_backward == "auto" else tuning.in_backward == "on"
    bf16 = precision.computes_bf16(device) and training.precision != "fp16"
    if open_backward is None and (training.accumulation > 1 or not bf16):
        open_backward = False  # summed gradients and loss scaling need them all at the end
    return footprint.Wish(
        weights="fp32" if tuning.weights == "auto" and training.ema_decay else None if tuning.weights == "auto" else tuning.weights,
        optimizer=None if settings.optimizer.name == "auto" else settings.optimizer.name,
        in_backward=open_backward,
        checkpointing=training.gradient_checkpointing,
        bf16=bf16,
    )


def identifier_notes(settings: Settings, tokenizer: Any) -> list[str]:
    """Warnings about DreamBooth's identifier: one that is split into many tokens, or a word that the model knows."""
    word = settings.data.trigger.strip()
    if settings.method != "dreambooth" or not word:
        return []
    ids = ids_of(tokenizer, word)
    better = " Better a rare one that is one token: " + ", ".join(_RARE) + "."
    if len(ids) == 1 and ids[0] - _WHOLE_WORDS < _COMMON:
        return [f"{word!r} is a word that the model knows well; its meaning will be lost or get in the way." + better]
    if len(ids) > _MANY_TOKENS:
        return [f"{word!r} is split into {len(ids)} tokens, which learn more slowly and may bring meanings of their own." + better]
    return []


_RARE = ("ohwx", "sks", "hta")
_WHOLE_WORDS = 512  # rows of single letters come first in CLIP's vocabulary; its words follow, the most frequent first
_COMMON = 30_000
_MANY_TOKENS = 3
