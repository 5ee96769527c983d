"""Values that mean something in other trainers and are refused here: each is answered with what to set instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lib_finetune.config.fields import value_at
from lib_finetune.config.settings import Settings

_Answer = Callable[[Settings, Any], str]
_Holds = Callable[[Any], bool]


def _number(test: Callable[[float], bool]) -> _Holds:
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and test(value)


_ZERO, _NEGATIVE, _OFF = _number(lambda value: value == 0), _number(lambda value: value < 0), _number(lambda value: value <= 0)
_COUNTED, _PERCENT = _number(lambda value: value >= 1), _number(lambda value: value > 1)


def _says(text: str) -> _Answer:
    return lambda settings, value: text


def _automatic(path: str) -> tuple[_Holds, _Answer]:
    return _OFF, _says(f"Where other tools take 0 or -1 for a value of their own choice, set {path} to auto.")


def _off(path: str) -> tuple[_Holds, _Answer]:
    return _NEGATIVE, _says(f"Where other tools take -1 for off, set {path} to 0.")


def _as_rank(path: str, rank: str) -> tuple[_Holds, _Answer]:
    return (
        _OFF,
        lambda settings, value: f"Where other tools take 0 for an alpha as large as the rank, set {path} to {value_at(settings, rank)}.",
    )


def _text_encoder_off(settings: Settings, _value: Any) -> str:
    change = "tuning.text_encoder_until to 0" if settings.method == "dreambooth" else "network.text_encoder to false"
    return f"To leave the text encoder as it is, set {change}, and this to auto."


def _share_of_steps(settings: Settings, value: Any) -> str:
    steps = settings.training.steps
    share = f"{value / steps:.3g}" if steps and value <= steps else "0.05 for a twentieth"
    return f"It is a share of the steps here, not their number or percent: set it to {share}."


def _percent(_settings: Settings, value: Any) -> str:
    return (
        f"It is a share from 0 to 1 here: for {value:g} percent set it to {value / 100:g}."
        if value <= 100
        else "It is a share from 0 to 1 here."
    )


def _layers(_settings: Settings, value: Any) -> str:
    return f"ComfyUI counts it from the end with a minus: set it to {-value:g}." if value < 0 else "To read the last layer, set it to 1."


_SHARES = ("optimizer.warmup", "tuning.text_encoder_until", "embedding.until", "network.begin")
_CHANCES = ("data.tag_dropout", "data.caption_dropout", "network.dropout")
_ZERO_IS_OFF = (
    "data.class_count", "data.held_out", "data.tag_dropout", "data.caption_dropout", "network.dropout", "network.conv_rank", "network.begin", "embedding.until",
    "tuning.text_encoder_until", "tuning.lora_rank", "optimizer.weight_decay", "optimizer.warmup", "optimizer.clip_norm",
    "objective.min_snr_gamma", "objective.noise_offset", "objective.timestep_min", "training.ema_decay", "saving.every_steps",
    "saving.every_epochs", "saving.keep", "preview.every",
)  # fmt: skip
_HABITS: tuple[tuple[str, _Holds, _Answer], ...] = (
    ("network.alpha", *_as_rank("network.alpha", "network.rank")),
    ("network.conv_alpha", *_as_rank("network.conv_alpha", "network.conv_rank")),
    ("network.rank", _OFF, _says("To take the rank of a file, name the file under network.start and set the rank that it has.")),
    ("network.factor", _OFF, _says("Where other tools take -1 for factors as square as can be, set network.factor to 16.")),
    ("optimizer.text_encoder_rate", _ZERO, _text_encoder_off),
    ("optimizer.text_encoder_rate", *_automatic("optimizer.text_encoder_rate")),
    (
        "optimizer.unet_rate",
        _ZERO,
        _says("The UNet is always trained here; to teach a word alone, set method to textual_inversion, and this to auto."),
    ),
    ("optimizer.unet_rate", *_automatic("optimizer.unet_rate")),
    ("embedding.rate", _ZERO, _says("To leave the word as it begins, set embedding.until to 0 (pivotal_tuning), and this to auto.")),
    ("embedding.rate", *_automatic("embedding.rate")),
    ("optimizer.restarts", _OFF, _says("For one wave, set optimizer.schedule to cosine.")),
    ("optimizer.power", _OFF, _says("For a rate that stays, set optimizer.schedule to constant.")),
    *((path, _COUNTED, _share_of_steps) for path in _SHARES),
    *((path, _PERCENT, _percent) for path in _CHANCES),
    ("training.steps", *_automatic("training.steps")),
    ("training.batch", _OFF, _says("Set it to 1.")),
    ("training.accumulation", _OFF, _says("To sum nothing, set it to 1.")),
    (
        "training.seed",
        _NEGATIVE,
        _says("Other tools read -1 as a random seed; set a number here, for example 42, to make the run repeatable."),
    ),
    (
        "preview.seed",
        _NEGATIVE,
        _says("Other tools read -1 as a random seed; set a number here, for example 42, to make previews comparable."),
    ),
    ("training.clip_skip", _OFF, _layers),
    ("training.ema_decay", _COUNTED, _says("0 is off; the largest is 0.99999.")),
    ("training.validate_every", _OFF, _says("To measure nothing, set data.held_out to 0.")),
    ("saving.state_every", _OFF, _says("To save none on the way, set it above training.steps.")),
    ("objective.timestep_max", _number(lambda value: value >= 1000), _says("The noise levels count from 0: the last is 999.")),
    ("objective.timestep_max", _NEGATIVE, _says("For all noise levels, set it to 999.")),
    ("objective.prior_weight", _NEGATIVE, _says("To leave the class out, set objective.prior to off.")),
    ("preview.count", _OFF, _says("For no images, set preview.enabled to false.")),
    ("preview.steps", _OFF, _says("For no images, set preview.enabled to false.")),
    ("preview.weight", _OFF, _says("For no images, set preview.enabled to false.")),
    ("embedding.vectors", _OFF, _says("To train no word, set method to lora.")),
    ("data.keep_tags", _NEGATIVE, _says("To keep none in front, set it to 0; to keep all, set data.shuffle_tags to false.")),
    *((path, *_off(path)) for path in _ZERO_IS_OFF),
)
_WORDS = {
    "network.adapter": {"locon": "set network.adapter to lora, and network.conv_rank to the rank of the convolutions"},
    "optimizer.schedule": {
        "constant_with_warmup": "set optimizer.schedule to constant; optimizer.warmup is the share in which it rises",
        "cosine_annealing": "set optimizer.schedule to cosine",
        "cosine_with_min_lr": "set optimizer.schedule to cosine",
    },
    "training.precision": {"no": "set training.precision to fp32", "float": "set training.precision to fp32"},
    "saving.precision": {"float": "set saving.precision to fp32", "no": "set saving.precision to fp32"},
    "objective.loss": {"l2": "set objective.loss to mse", "smooth_l1": "set objective.loss to huber"},
    "saving.states": {"false": "set saving.states to none", "true": "set saving.states to last"},
}
"""Setting → word of another tool → what to do here."""


def answer(settings: Settings, path: str, value: Any) -> str:
    """What to set here where a refused value means something in other tools; "" where it means nothing known."""
    if isinstance(value, str):
        word = value.strip().lower()
        choice = _WORDS.get(path, {}).get(word, "")
        return f"{choice[0].upper()}{choice[1:]}." if choice else ""
    return next((reply(settings, value) for known, holds, reply in _HABITS if known == path and holds(value)), "")
