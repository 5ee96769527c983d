"""Automatic settings made definite: steps, learning rates, how the class is kept, and how often what is done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lib_finetune.assembly.caption_templates import caption_template, class_template
from lib_finetune.assembly.method_traits import patches, teaches_word
from lib_finetune.config.fields import replaced, value_at
from lib_finetune.config.settings import Settings
from lib_finetune.data.captions import template_caption
from lib_finetune.training.functional import rates
from lib_finetune.training.optim import OPTIMIZERS, automatic_rates, rate_warnings

if TYPE_CHECKING:
    from lib_finetune.text.prompts import TextEncoder

VIEWS_PER_PICTURE = {"lora": 100, "dreambooth": 100, "textual_inversion": 250, "pivotal_tuning": 100}
STEPS_LOW_HIGH = {"lora": (500, 3000), "dreambooth": (400, 2400), "textual_inversion": (1000, 4000), "pivotal_tuning": (500, 3000)}
_DREAMBOOTH_RATE = 0.02
"""The whole model's learning rate against that of a patch with alpha = rank: 2e-6 with AdamW (the paper: 1e-6 to 5e-6)."""
_EMBEDDING_RATE = 50
"""An embedding's learning rate against that of a patch with alpha = rank: 5e-3 with AdamW."""
_PIVOT_RATE = 5
"""The same where patches help the embedding: 5e-4."""
WHOLE_GRADIENT = ("prodigy",)
"""Optimizers that find one learning rate for all weights together, so that none can be moved by itself."""
_PREVIEWS = 4
"""In a run, where the person sets no number of steps: the base, three points of the way and the result stand side by side."""


def prior_of(settings: Settings) -> str:
    """How the class is kept: "off", "pictures" or "prediction"."""
    chosen = settings.objective.prior
    if settings.method == "textual_inversion" or chosen == "off":
        return "off"
    pictures = bool(settings.data.class_images or settings.data.class_count)
    if chosen == "auto":
        predicts = settings.method == "dreambooth" and bool(settings.data.class_word.strip())
        return "pictures" if pictures else "prediction" if predicts else "off"
    return chosen


def needed_parts(settings: Settings) -> tuple[str, ...]:
    """Parts of the host's model that training steps compute with."""
    if settings.method != "dreambooth" or prior_of(settings) == "prediction":
        return ("unet", "text")
    return () if settings.tuning.text_encoder_until else ("text",)


def class_caption(settings: Settings) -> str:
    """The caption of a class picture without a text file."""
    return template_caption(class_template(settings), "", settings.data.class_word)


def automatic_steps(views: int, batch: int, accumulation: int, method: str = "lora") -> int:
    """Steps in which each picture is seen `VIEWS_PER_PICTURE` times, within `STEPS_LOW_HIGH` (peers: LoRA 80 to 120 views)."""
    low, high = STEPS_LOW_HIGH[method]
    return max(low, min(high, round(views * VIEWS_PER_PICTURE[method] / (batch * accumulation))))


def resolved(settings: Settings, views: int, clip_skip: int) -> tuple[Settings, list[str]]:
    """The settings with every automatic value filled in, and what is to be said about it.

    Args:
        views: pictures an epoch shows.
        clip_skip: the host's.
    """
    training = settings.training
    settings = replaced(settings, "data.template", caption_template(settings))
    if settings.optimizer.name == "auto":
        settings = replaced(settings, "optimizer.name", "adamw")
    automatic, chosen_rates = _RATES_OF[settings.method](settings)
    values: dict[str, int | float] = {
        "training.steps": automatic_steps(views, training.batch, training.accumulation, settings.method),
        "training.clip_skip": clip_skip,
        **{_RATES[group]: rate for group, rate in automatic.items()},
    }
    for path, value in values.items():
        if value_at(settings, path) is None:
            settings = replaced(settings, path, value)
    if settings.preview.every is None:
        settings = replaced(settings, "preview.every", -(-(settings.training.steps or 1) // _PREVIEWS))
    chosen = {group: rate for group, rate in chosen_rates.items() if rate is not None}
    notes = rate_warnings(settings.optimizer.name, chosen, automatic)
    first, rate = next(iter(automatic.items()))
    if first not in chosen:
        follows = settings.optimizer.name + (" and alpha / rank" if patches(settings) else "")
        notes.append(f"Learning rate {rate:.3g} for the {_SPOKEN.get(first, first)}, following {follows}.")
    if teaches_word(settings):
        notes += _word_notes(settings)
        settings = replaced(settings, "data.trigger", settings.name)
    return settings, notes


_RATES = {"unet": "optimizer.unet_rate", "text encoder": "optimizer.text_encoder_rate", "embedding": "embedding.rate"}
_SPOKEN = {"unet": "UNet"}


def _patch_rates(settings: Settings) -> tuple[dict[str, float], dict[str, float | None]]:
    """Automatic and given rates of the family of LoRA."""
    chosen, network = settings.optimizer, settings.network
    unet, text = automatic_rates(OPTIMIZERS[chosen.name], network.rank, network.alpha)
    chosen_rates = {"unet": chosen.unet_rate, "text encoder": chosen.text_encoder_rate if network.text_encoder else None}
    return {"unet": unet, "text encoder": text}, chosen_rates


def _model_rates(settings: Settings) -> tuple[dict[str, float], dict[str, float | None]]:
    """Automatic and given rates of DreamBooth."""
    chosen, kind = settings.optimizer, OPTIMIZERS[settings.optimizer.name]
    own = automatic_rates(kind, 1, 1.0)[0] * (1.0 if kind.rate_factor is None else _DREAMBOOTH_RATE)
    chosen_rates = {"unet": chosen.unet_rate, "text encoder": chosen.text_encoder_rate if settings.tuning.text_encoder_until else None}
    return {"unet": own, "text encoder": own if kind.rate_factor is None else own / 2}, chosen_rates


def _embedding_rates(settings: Settings) -> tuple[dict[str, float], dict[str, float | None]]:
    kind = OPTIMIZERS[settings.optimizer.name]
    own = automatic_rates(kind, 1, 1.0)[0]
    factor = _PIVOT_RATE if patches(settings) else _EMBEDDING_RATE
    return {"embedding": own if kind.rate_factor is None else own * factor}, {"embedding": settings.embedding.rate}


def _pivot_rates(settings: Settings) -> tuple[dict[str, float], dict[str, float | None]]:
    both = _patch_rates(settings), _embedding_rates(settings)
    return {**both[0][0], **both[1][0]}, {**both[0][1], **both[1][1]}


_RATES_OF = {"lora": _patch_rates, "dreambooth": _model_rates, "textual_inversion": _embedding_rates, "pivotal_tuning": _pivot_rates}


def _word_notes(settings: Settings) -> list[str]:
    count, trigger = settings.embedding.vectors, settings.data.trigger
    notes = [f"In a prompt, {settings.name} takes {count} of the 75 tokens."]
    if trigger and trigger != settings.name:
        notes.append(f"The word is the name of the result: write {settings.name} in prompts, not {trigger}.")
    return notes


def arithmetic(settings: Settings, views: int) -> str:
    """How often each picture is seen, in one sentence."""
    per_step = settings.training.batch * settings.training.accumulation
    steps = settings.training.steps or 0
    return f"{steps} steps of {per_step} picture{'s' * (per_step > 1)}: each of the {views} is seen about {times(steps * per_step / views)} times."


def times(count: float) -> str:
    """How often, in digits that do not make nothing of a part of once."""
    return f"{count:.0f}" if count >= 1 else f"{count:.2g}"


def long_captions(settings: Settings, captions: Iterable[str], text: TextEncoder) -> list[str]:
    """A line for each caption that is longer than what is read of it."""
    limit = settings.data.max_tokens
    counts = {caption: len(text.tokens(caption)) for caption in sorted(set(captions))}
    return [
        f"A caption has {count} tokens; {limit} are read and the rest is cut off: {caption[:60]}…"
        for caption, count in counts.items()
        if count > limit
    ]


def group_rates(settings: Settings) -> dict[str, float]:
    """Highest learning rate by parameter group, of resolved settings."""
    if settings.method == "textual_inversion":
        return {"embedding": settings.embedding.rate or 0.0}
    trains = settings.tuning.text_encoder_until > 0 if settings.method == "dreambooth" else settings.network.text_encoder
    text = settings.optimizer.text_encoder_rate if trains else 0.0
    word = {"embedding": settings.embedding.rate or 0.0} if teaches_word(settings) else {}
    return {"unet": settings.optimizer.unet_rate or 0.0, "text encoder": text or 0.0, **word}


def step_rates(settings: Settings, step: int) -> dict[str, float]:
    """Learning rate of step ``step`` (0-based) by parameter group, of resolved settings."""
    chosen = settings.optimizer
    steps = settings.training.steps or 0
    by_group = {}
    for group, peak in group_rates(settings).items():
        first, last = _window(settings, group)
        # An optimizer that finds its own rate takes the same factor everywhere.
        at, total = (step, steps) if OPTIMIZERS[chosen.name].rate_factor is None else (step - first, last - first)
        learns = first <= step < last
        by_group[group] = peak * rates.factor(chosen.schedule, at, total, chosen.warmup, chosen.restarts, chosen.power) if learns else 0.0
    if settings.method == "dreambooth" and step >= settings.tuning.text_encoder_until * steps:
        by_group["text encoder"] = 0.0
    return by_group


def _window(settings: Settings, group: str) -> tuple[int, int]:
    """The steps in which a group learns, the last excluded; each such part has the whole schedule to itself."""
    steps = settings.training.steps or 0
    if settings.method != "pivotal_tuning":
        return 0, steps
    return (0, round(settings.embedding.until * steps)) if group == "embedding" else (round(settings.network.begin * steps), steps)
