"""Automatic settings made definite: steps, learning rates, how the class is kept, and how often what is done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from lib_finetune.assembly.caption_templates import class_template, written_template
from lib_finetune.assembly.method_traits import teaches_word
from lib_finetune.assembly.rate_plan import RatePlan
from lib_finetune.config.fields import replaced, value_at
from lib_finetune.config.optimizer_demands import demands_of
from lib_finetune.config.settings import Settings
from lib_finetune.data.captions import template_caption
from lib_finetune.data.plan import Epoch
from lib_finetune.training.optim import OPTIMIZERS, automatic_rates, rate_warnings

if TYPE_CHECKING:
    from lib_finetune.data.plan import Plan as DataPlan
    from lib_finetune.text.prompts import TextEncoder

VIEWS_PER_PICTURE = {"lora": 100, "dreambooth": 100, "textual_inversion": 250, "pivotal_tuning": 100}
STEPS_LOW_HIGH = {"lora": (500, 3000), "dreambooth": (400, 2400), "textual_inversion": (1000, 4000), "pivotal_tuning": (500, 3000)}
_DREAMBOOTH_RATE = 0.02
"""The whole model's learning rate against that of a patch with alpha = rank: 2e-6 with AdamW (the paper: 1e-6 to 5e-6)."""
_EMBEDDING_RATE = 50
"""An embedding's learning rate against that of a patch with alpha = rank: 5e-3 with AdamW."""
_PIVOT_RATE = 5
"""The same where patches help the embedding: 5e-4."""
_PREVIEWS = 4
"""In a run, where the person sets no number of steps: the base, three points of the way and the result stand side by side."""


def prior_of(settings: Settings) -> str:
    """How the class is kept: "off", "images" or "prediction"."""
    chosen = settings.objective.prior
    if settings.method == "textual_inversion" or chosen == "off":
        return "off"
    pictures = bool(settings.data.class_images or settings.data.class_count)
    if chosen == "auto":
        predicts = settings.method == "dreambooth" and bool(settings.data.class_word.strip())
        return "pictures" if pictures else "prediction" if predicts else "off"
    return chosen


def unused_class_images(settings: Settings) -> list[str]:
    """A line where class images are named that the training does not use."""
    prior = prior_of(settings)
    if prior == "pictures" or not (settings.data.class_images or settings.data.class_count):
        return []
    means = "by the model's own prediction" if prior == "prediction" else "by nothing"
    return [f"Class images are not used: the class is kept {means} (objective.prior {settings.objective.prior})."]


def weightless_class(settings: Settings) -> list[str]:
    """A line where the class is to be kept with no weight: then it costs time and does nothing."""
    if prior_of(settings) == "off" or settings.objective.prior_weight:
        return []
    return ["The class is not kept: objective.prior_weight is 0. Set objective.prior to off, or the weight to 1."]


def needed_parts(settings: Settings) -> tuple[str, ...]:
    """Parts of the host's model that training steps compute with."""
    if settings.method != "dreambooth" or prior_of(settings) == "prediction":
        return ("unet", "text")
    return () if settings.tuning.text_encoder_until else ("text",)


def class_caption(settings: Settings) -> str:
    """The caption of a class image without a text file."""
    return template_caption(class_template(settings), "", settings.data.class_word)


def automatic_steps(pictures: int, batch: float, accumulation: int, method: str = "lora") -> int:
    """Steps in which each image is seen `VIEWS_PER_PICTURE` times, within `STEPS_LOW_HIGH` (peers: LoRA 80 to 120 views).

    Args:
        images: that are trained on.
        batch: images that a batch holds in the mean.
    """
    low, high = STEPS_LOW_HIGH[method]
    return max(low, min(high, round(pictures * VIEWS_PER_PICTURE[method] / (batch * accumulation))))


def resolved(
    settings: Settings, epoch: Epoch | int, clip_skip: int, scales: Mapping[str, float] | None = None
) -> tuple[Settings, list[str]]:
    """The settings with every automatic value filled in, and what is to be said about it.

    Args:
        epoch: of the plan of the run's images; a number stands for so many images of one size.
        clip_skip: the host's.
        scales: part of the model → how much its patches count, where that is not alpha / rank.
    """
    training = settings.training
    if isinstance(epoch, int):
        epoch = Epoch.of(epoch, training.batch)
    settings = replaced(settings, "data.template", written_template(settings))
    if settings.optimizer.name == "auto":
        settings = replaced(settings, "optimizer.name", "adamw")
    steps = automatic_steps(epoch.pictures, epoch.views / epoch.batches, training.accumulation, settings.method)
    for path, value in (("training.steps", steps), ("training.clip_skip", clip_skip)):
        if value_at(settings, path) is None:
            settings = replaced(settings, path, value)
    if settings.preview.every is None:
        settings = replaced(settings, "preview.every", -(-(settings.training.steps or 1) // _PREVIEWS))
    settings, notes = _with_rates(settings, _usual_rates(settings, scales))
    notes += _short_run(settings)
    if teaches_word(settings):
        notes += _word_notes(settings)
        settings = replaced(settings, "data.trigger", settings.name)
    return settings, notes


def _short_run(settings: Settings) -> list[str]:
    fewest, steps = demands_of(settings.optimizer.name).fewest_steps, settings.training.steps or 0
    if steps >= fewest:
        return []
    name = settings.optimizer.name
    remedy = f"set training.steps to {fewest} or more, or optimizer.name to adamw."
    return [f"{name} has to find its learning rate first and learns next to nothing in {steps} steps: {remedy}"]


RATES = {"unet": "optimizer.unet_rate", "text encoder": "optimizer.text_encoder_rate", "embedding": "embedding.rate"}
"""Group of parameters → the setting of its learning rate."""


def _with_rates(settings: Settings, usual: Mapping[str, float]) -> tuple[Settings, list[str]]:
    """The settings with rates for all groups: one that is derived from another follows the value that the other really has."""
    one_rate, trained = demands_of(settings.optimizer.name).one_rate, RatePlan(settings).groups()
    chosen = {group: rate for group in usual if group in trained and (rate := value_at(settings, RATES[group])) is not None}
    lead = next(iter(usual))
    for group, rate in usual.items():
        if value_at(settings, RATES[group]) is None:
            share = 1.0 if one_rate else rate / usual[lead]
            follows = group != lead and (one_rate or group == "text encoder")
            settings = replaced(settings, RATES[group], value_at(settings, RATES[lead]) * share if follows else rate)
    spoken, spoken_usual = ({SPOKEN.get(group, group): rate for group, rate in rates.items()} for rates in (chosen, usual))
    return settings, rate_warnings(settings.optimizer.name, spoken, spoken_usual)


def _usual_rates(settings: Settings, scales: Mapping[str, float] | None) -> dict[str, float]:
    """The rate that suits each group that the method has, the leading one first, whatever the person set."""
    kind, network = OPTIMIZERS[settings.optimizer.name], settings.network
    if demands_of(settings.optimizer.name).finds_rate:
        groups = ("embedding",) if settings.method == "textual_inversion" else ("unet", "text encoder")
        return dict.fromkeys((*groups, "embedding") if settings.method == "pivotal_tuning" else groups, 1.0)
    plain = automatic_rates(kind, 1, 1.0)[0]
    if settings.method == "textual_inversion":
        return {"embedding": plain * _EMBEDDING_RATE}
    if settings.method == "dreambooth":
        return {"unet": plain * _DREAMBOOTH_RATE, "text encoder": plain * _DREAMBOOTH_RATE / 2}
    if scales is None:
        unet, text = automatic_rates(kind, network.rank, network.alpha)
    else:
        unet, text = (automatic_rates(kind, 1, scales.get(part, scales["unet"]))[place] for place, part in enumerate(("unet", "text")))
    return {"unet": unet, "text encoder": text, **({"embedding": plain * _PIVOT_RATE} if teaches_word(settings) else {})}


def _word_notes(settings: Settings) -> list[str]:
    count, trigger = settings.embedding.vectors, settings.data.trigger
    notes = [f"In a prompt, {settings.name} takes {count} of the 75 tokens."]
    if trigger and trigger != settings.name:
        notes.append(f"The word is the name of the result: write {settings.name} in prompts, not {trigger}.")
    return notes


def arithmetic(settings: Settings, plan: DataPlan, done: int = 0) -> str:
    """How often each image is seen, in one sentence, counted on the plan.

    Args:
        done: steps that a resumed run has finished before.
    """
    accumulation, steps = settings.training.accumulation, settings.training.steps or 0
    views = plan.views(done * accumulation, steps * accumulation)
    least, most = min(views), max(views)
    often = f"{most} time{'s' * (most != 1)}" if least == most else f"{least} to {most} times"
    repeats = ", as repeats weigh them" if len({picture.repeats for picture in plan.pictures}) > 1 else ""
    count, per_step = len(views), plan.order.largest_batch * accumulation
    each = f"each of the {count} is" if count > 1 else "it is"
    further = "further " if done else ""
    return (
        f"{steps - done} {further}step{'s' * (steps - done != 1)} of {'up to ' * plan.order.partial}{per_step} image{'s' * (per_step > 1)}: "
        f"{each} seen {often}{repeats}."
    )


def rate_note(plan: RatePlan) -> str:
    """The highest learning rate of every group that is trained, in one sentence, as the plan of the run has it."""
    rates = ", ".join(f"{SPOKEN.get(group, group)} {rate:.3g}" for group in plan.groups() if (rate := plan.highest(group)) > 0)
    return f"Learning rates at their highest: {rates}."


SPOKEN = {"unet": "UNet"}
"""Group of parameters → how it is spoken of, where that is another."""


def long_captions(settings: Settings, captions: Iterable[str], text: TextEncoder, what: str = "caption") -> list[str]:
    """A line for each caption that is longer than what is read of it.

    Args:
        what: the captions are: "caption", "class caption", "template".
    """
    limit = settings.data.max_tokens
    return [
        f"A {what} has {count} tokens; {limit} are read and the rest is cut off: {caption[:60]}…"
        for caption, count in _longer(captions, text, limit)
    ]


def long_prompts(settings: Settings, prompts: Iterable[str], text: TextEncoder) -> list[str]:
    """A line for each preview prompt that is longer than what is read of a caption; a host reads prompts whole."""
    limit = settings.data.max_tokens
    return [
        f"A preview prompt has {count} tokens; of captions {limit} are read; what follows them is not trained: {prompt[:60]}…"
        for prompt, count in _longer(prompts, text, limit)
    ]


def _longer(texts: Iterable[str], text: TextEncoder, limit: int) -> list[tuple[str, int]]:
    counts = ((each, len(text.tokens(each))) for each in sorted(set(texts)))
    return [(each, count) for each, count in counts if count > limit]
