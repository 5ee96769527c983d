"""What a run takes and what it begins with: memory, disk and the words that stand for the subject, looked at before the first step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from lib_finetune.assembly.automatic_settings import needed_parts, prior_of
from lib_finetune.assembly.method_traits import keeps_states
from lib_finetune.assembly.run_plans import preview_plan
from lib_finetune.config.fields import replaced
from lib_finetune.config.optimizer_demands import demands_of
from lib_finetune.config.settings import Settings
from lib_finetune.data.plan import Epoch
from lib_finetune.estimates import memory_model
from lib_finetune.model import layout
from lib_finetune.ports.pictures import picture_bytes
from lib_finetune.text.learned import ids_of
from lib_finetune.training import precision

if TYPE_CHECKING:
    from lib_finetune.ports.lease import Lease


@dataclass(frozen=True)
class Weights:
    """The host's model, as far as memory hangs on it.

    Attributes:
        counts: weights of "unet" and "text".
        here, elsewhere: bytes of each part that lie on the device, and that do not.
        float32: the parts that are held in float32.
    """

    counts: Mapping[str, int]
    here: Mapping[str, int]
    elsewhere: Mapping[str, int]
    float32: frozenset[str] = frozenset()


def weights_of(lease: Lease) -> Weights:
    """Look at the leased weights where they are."""
    counts, here, elsewhere = (dict.fromkeys(layout.PREFIXES, 0) for _ in range(3))
    for part, prefix in layout.PREFIXES.items():
        for tensor in (tensor for name, tensor in lease.tensors.items() if name.startswith(prefix)):
            counts[part] += tensor.numel()
            (here if tensor.device.type == lease.device.type else elsewhere)[part] += tensor.numel() * tensor.element_size()
    prefixes = layout.PREFIXES
    float32 = {
        part
        for part in prefixes
        for name, tensor in lease.tensors.items()
        if name.startswith(prefixes[part]) and tensor.element_size() == 4
    }
    return Weights({part: counts[part] for part in ("unet", "text")}, here, elsewhere, frozenset(float32))


LEVERS = (
    "tuning.weights",
    "tuning.in_backward",
    "optimizer.name",
    "training.gradient_checkpointing",
    "training.precision",
    "tuning.host_weights",
)
"""What `choose_checkpointing` and `choose_memory_plan` choose."""


@dataclass(frozen=True)
class Patches:
    """What is trained beside a model that stays as it is.

    Attributes:
        trained: bytes of weights that are trained, with their gradients and the optimizer's state.
        deltas: weights of the layers whose whole change ΔW is made at every step, as LoHa and LoKr make it.
    """

    trained: int
    deltas: int = 0


def has_plenty(settings: Settings, device: torch.device, free: int) -> bool:
    """Whether so much is free that nothing need be looked at more closely."""
    return not free or free >= memory_model.with_reserve(passing(settings, device) + _PATCHES_AT_MOST[device.type == "cuda"])


_PATCHES_AT_MOST = {False: 6 * memory_model.GIB, True: 14 * memory_model.GIB}
"""Bytes that no patches of SD1.5 take beside the model, whole changes ΔW counted, on the CPU and on a card; there, guests and casts come to them."""


def need_of_patches(settings: Settings, weights: Weights, patches: Patches, device: torch.device) -> int:
    """Bytes that must be free beside the host's model for a step of patches or of an embedding, with a reserve."""
    parts = [part for part in needed_parts(settings) if part in weights.counts]
    guests = sum(weights.elsewhere[part] for part in needed_parts(settings)) if device.type == "cuda" else 0
    sixteen_bit, share = _sixteen_bit(settings, device), memory_model.kept_of_unet(settings.training.gradient_checkpointing)
    casts = sum(weights.counts[part] * 2 * (share if part == "unet" else 1.0) for part in parts if sixteen_bit and part in weights.float32)
    deltas = patches.deltas * (6 if sixteen_bit else 4) * share  # made in float32, and computed with in 16 bits
    passes = passing(settings, device) * memory_model.width(weights.counts["unet"])
    return memory_model.with_reserve(int(passes + casts + deltas) + patches.trained + guests)


def choose_checkpointing(
    settings: Settings, weights: Weights, patches: Patches, device: torch.device, free: int
) -> tuple[Settings, list[str]]:
    """The settings with gradient checkpointing switched on where the memory is too short without it, and what is to be said about it.

    Args:
        free: bytes beside the host's model; 0 where the system does not tell.
    """
    training = settings.training
    need = need_of_patches(replaced(settings, "training.gradient_checkpointing", False), weights, patches, device)
    if training.gradient_checkpointing or not free or free >= need:
        return settings, []
    note = f"Gradient checkpointing is on: a step needs about {need / memory_model.GIB:.1f} GiB without it, and {free / memory_model.GIB:.1f} are free."
    return replaced(settings, "training.gradient_checkpointing", True), [note]


def passing(settings: Settings, device: torch.device) -> int:
    """Bytes that a step of patches or of an embedding holds besides what it trains; class images count, too."""
    training = settings.training
    pictures = training.batch * (2 if prior_of(settings) == "pictures" else 1)
    return memory_model.passing(settings.data.resolution**2 * pictures, _sixteen_bit(settings, device), training.gradient_checkpointing)


def _sixteen_bit(settings: Settings, device: torch.device) -> bool:
    chosen = settings.training.precision
    return device.type == "cuda" and chosen != "fp32" and not (chosen == "auto" and precision.lacks_fp16(device))


def choose_memory_plan(settings: Settings, weights: Weights, device: torch.device, free: int, ram: int) -> tuple[Settings, str]:
    """DreamBooth's settings with the form of its weights chosen by the free memory, and a sentence on it.

    Args:
        free: bytes of the device beside the host's model; 0 where the system does not tell.
        ram: bytes of main memory; 0 likewise.

    Raises:
        InputError: nothing fits; with the figures.
    """
    work, room = _work(settings, weights.counts, device), _room(settings, weights, device, free, ram)
    form = memory_model.choose(_wish(settings, device), work, room, _advice(settings, device))
    place = "on the card" if device.type == "cuda" else "of memory"
    note = (
        f"{work.weights / 1e6:.0f} million weights are trained: {form}. That takes about {_gib(form.need(work) + room.guests)} GiB {place}"
    )
    note += f"; {_gib(free)} are free." if free else "."
    if form.swapped:
        note += (
            f" While it trains, {_gib(room.away)} GiB of the WebUI's model are moved to main memory; for each image they come back and the "
            f"{_gib(form.rest(work))} GiB that are trained go there. The log says how long this takes when it happens first."
        )
    if form.in_backward and settings.optimizer.clip_norm:
        note += " Gradients are clipped layer by layer."
    return with_form(settings, form), note


def placed(settings: Settings, weights: Weights, device: torch.device, free: int, ram: int) -> Settings:
    """Settings of a resumed run: the form stays; the place of the host's model is chosen anew if it was left automatic."""
    if settings.tuning.host_weights != "auto":
        return settings
    room = _room(settings, weights, device, free, ram)
    fits = device.type == "cpu" or room.holds(_form(settings), _work(settings, weights.counts, device))
    return replaced(settings, "tuning.host_weights", "beside" if fits else "exchange")


def _advice(settings: Settings, device: torch.device) -> str:
    advice = ""
    if settings.tuning.host_weights == "beside":
        advice += "Set tuning.host_weights to auto. "
    if prior_of(settings) == "prediction" and device.type == "cuda":
        advice += "Set data.class_count to 200: with class images, a step does not need the WebUI's model. "
    return advice.strip()


def with_form(settings: Settings, form: memory_model.Form) -> Settings:
    """The settings with a form written into them."""
    on = "on" if form.in_backward else "off"
    computed = "fp32" if form.single else settings.training.precision
    placed = "exchange" if form.swapped else "beside"
    chosen = (form.weights, on, form.optimizer, form.checkpointing, computed, placed)
    for path, value in zip(LEVERS, chosen, strict=True):
        settings = replaced(settings, path, value)
    return settings


def least(settings: Settings, device: torch.device, counts: Mapping[str, int]) -> Settings:
    """The settings in the smallest form that they leave open."""
    return with_form(settings, memory_model.least(_wish(settings, device), _work(settings, counts, device)))


def beside_host(settings: Settings, weights: Weights, device: torch.device) -> int:
    """Bytes of a step of DreamBooth beside the host's model, its form chosen (`choose_memory_plan`); what the host's model gives up is taken off."""
    form = _form(settings)
    room = _room(settings, weights, device, 0, 0)
    return form.need(_work(settings, weights.counts, device)) + room.guests - (room.away if form.swapped else 0)


def _form(settings: Settings) -> memory_model.Form:
    """The form that stands in settings."""
    tuning, training = settings.tuning, settings.training
    single, swapped = training.precision == "fp32", tuning.host_weights == "exchange"
    return memory_model.Form(
        tuning.weights, settings.optimizer.name, tuning.in_backward == "on", training.gradient_checkpointing, single, swapped
    )


def _room(settings: Settings, weights: Weights, device: torch.device, free: int, ram: int) -> memory_model.Room:
    needed = needed_parts(settings)
    guests = sum(weights.elsewhere[part] for part in needed)
    away = sum(size for part, size in weights.here.items() if part not in needed)
    picture = _picture(settings, weights) + weights.elsewhere["unet"] if device.type == "cuda" else 0
    return memory_model.Room(free, ram, guests, away, picture)


def _picture(settings: Settings, weights: Weights) -> int:
    """Bytes of the largest batch of images that the host is asked for between turns, and of one of 512 px in any case."""
    vae, unet = "vae" in weights.float32, "unet" in weights.float32
    preview = preview_plan(settings)
    count = max((each.count for each in preview.prompts), default=1) if preview.enabled else 1
    return max(picture_bytes(preview.side_px, count, vae, unet), picture_bytes(float32_vae=vae, float32_unet=unet))


def _gib(size: int) -> str:
    return f"{size / memory_model.GIB:.1f}"


def _work(settings: Settings, counts: Mapping[str, int], device: torch.device) -> memory_model.Work:
    training = settings.training
    trained = counts["unet"] + (counts["text"] if settings.tuning.text_encoder_until else 0)
    pictures = training.batch * (1 if prior_of(settings) == "off" else 2)
    pixels = int(settings.data.resolution**2 * pictures * memory_model.width(counts["unet"]))
    return memory_model.Work(trained, pixels, _sixteen_bit(settings, device), training.ema_decay > 0, settings.data.held_out > 0)


def state_bytes(settings: Settings, counts: Mapping[str, int]) -> int:
    """Of a saved state of DreamBooth, its form chosen."""
    trained = counts["unet"] + (counts["text"] if settings.tuning.text_encoder_until else 0)
    copies = 1 + (settings.training.ema_decay > 0) + (settings.data.held_out > 0)
    return int(trained * _form(settings).bytes_kept(copies))


FEWEST_STATES = 2
"""An older state stays until the next one is whole."""


def states_at_once(settings: Settings, views: Epoch | int) -> int:
    """How many saved states lie on the disk at most.

    Args:
        settings: resolved.
        views: what an epoch shows; a number stands for so many images of one size.
    """
    return FEWEST_STATES + (_points_at_once(settings, views) if keeps_states(settings) == "all" else 0)


def files_at_once(settings: Settings, views: Epoch | int) -> int:
    """How many files of the result lie on the disk at most; arguments as of `states_at_once`."""
    return 1 + _points_at_once(settings, views)


def _points_at_once(settings: Settings, views: Epoch | int) -> int:
    saving, training, steps = settings.saving, settings.training, settings.training.steps or 0
    batches = views.batches if isinstance(views, Epoch) else Epoch.of(views, training.batch).batches
    epoch = saving.every_epochs * batches / training.accumulation
    between = sum((steps - 1) // every for every in (saving.every_steps, epoch) if every)
    return int(min(between, saving.keep) if saving.keep else between)


def _wish(settings: Settings, device: torch.device) -> memory_model.Wish:
    tuning, training = settings.tuning, settings.training
    place, whole_gradient = tuning.host_weights, demands_of(settings.optimizer.name).whole_gradient
    return memory_model.Wish(
        weights=tuning.weights if tuning.weights != "auto" else "fp32" if training.ema_decay or whole_gradient else None,
        optimizer=None if settings.optimizer.name == "auto" else settings.optimizer.name,
        in_backward=None if tuning.in_backward == "auto" else tuning.in_backward == "on",
        checkpointing=training.gradient_checkpointing,
        bf16=precision.computes_bf16(device) and training.precision in ("auto", "bf16"),
        scaled=precision.scales(training.precision, device),
        summed=training.accumulation > 1 or whole_gradient,
        single=training.precision in ("auto", "fp32"),
        # On the CPU both models lie in main memory in any case.
        swapped=place == "exchange" if place != "auto" or device.type == "cpu" else None,
    )


def identifier_notes(settings: Settings, tokenizer: Any) -> list[str]:
    """Warnings about DreamBooth's identifier: one that is split into many tokens, or a word that the model knows."""
    word = settings.data.trigger.strip()
    if settings.method != "dreambooth" or not word:
        return []
    ids = ids_of(tokenizer, word)
    better = " Better a rare one that is one token: " + ", ".join(_RARE) + "."
    parts = word.split()
    if len(parts) > 1 and any(_is_common(part, tokenizer) for part in parts):
        return [f"{word!r} is made of words that the model knows well; their meaning will be lost or get in the way." + better]
    if _is_common(word, tokenizer):
        return [f"{word!r} is a word that the model knows well; its meaning will be lost or get in the way." + better]
    if len(ids) > _MANY_TOKENS:
        return [f"{word!r} is split into {len(ids)} tokens, which learn more slowly and may bring meanings of their own." + better]
    return []


def _is_common(word: str, tokenizer: Any) -> bool:
    ids = ids_of(tokenizer, word)
    return len(ids) == 1 and ids[0] - _WHOLE_WORDS < _COMMON


_RARE = ("ohwx", "sks", "hta")
_WHOLE_WORDS = 512  # rows of single letters come first in CLIP's vocabulary; its words follow, the most frequent first
_COMMON = 30_000
_MANY_TOKENS = 3
