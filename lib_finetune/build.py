"""Settings to objects: the only place that unpacks the settings tree."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lib_finetune.adapters import ADAPTERS, Adapter, AdapterOptions
from lib_finetune.adapters.targets import text_targets, unet_targets
from lib_finetune.config.codec import to_dict
from lib_finetune.config.fields import replaced
from lib_finetune.config.settings import Settings
from lib_finetune.data.batches import Batches
from lib_finetune.data.cache import LatentCache
from lib_finetune.data.plan import Plan as DataPlan
from lib_finetune.data.scan import Report, scan
from lib_finetune.engine import precision
from lib_finetune.engine.ema import Ema
from lib_finetune.engine.ledger import Ledger
from lib_finetune.engine.loop import Plan, Trainer
from lib_finetune.engine.turns import Turns
from lib_finetune.errors import InputError, Problem
from lib_finetune.export.metadata import Recipe
from lib_finetune.maths import rates
from lib_finetune.methods.denoising import Denoiser, Objective
from lib_finetune.methods.lora import LoraMethod
from lib_finetune.model import layout
from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.digest import digest
from lib_finetune.model.prompts import TextEncoder
from lib_finetune.model.sampling import encode
from lib_finetune.optim import OPTIMIZERS, automatic_rates, rate_warnings

if TYPE_CHECKING:
    from collections.abc import Callable

    from lib_finetune.ports import CheckpointInfo, Lease, StepReport, TextTools

VIEWS_PER_PICTURE = 100
STEPS_LOW, STEPS_HIGH = 500, 3000
_TEXTS_KEPT = 512


@dataclass(frozen=True)
class Dataset:
    """The pictures of a run, found and read."""

    subject: Report
    classes: Report | None

    @property
    def views(self) -> int:
        """Pictures an epoch shows, repeats counted."""
        return sum(picture.repeats for picture in self.subject.pictures)


def dataset(settings: Settings) -> Dataset:
    """Find the pictures.

    Raises:
        InputError: a folder is missing, unreadable or without a usable picture; both folders' problems at once.
    """
    problems: list[Problem] = []
    found: dict[str, Report] = {}
    for field, folder in (("images", settings.data.images), ("class_images", settings.data.class_images)):
        try:
            if folder:
                found[field] = scan(Path(folder).expanduser(), field=f"data.{field}")
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return Dataset(found["images"], found.get("class_images"))


def automatic_steps(views: int, batch: int, accumulation: int) -> int:
    """Steps in which each picture is seen `VIEWS_PER_PICTURE` times, within 500 to 3000 (peers: 80 to 120 views)."""
    return max(STEPS_LOW, min(STEPS_HIGH, round(views * VIEWS_PER_PICTURE / (batch * accumulation))))


def resolved(settings: Settings, views: int, clip_skip: int) -> tuple[Settings, list[str]]:
    """The settings with every automatic value filled in, and what is to be said about it.

    Args:
        views: pictures an epoch shows.
        clip_skip: the host's.
    """
    kind = OPTIMIZERS[settings.optimizer.name]
    unet, text = automatic_rates(kind, settings.network.rank, settings.network.alpha)
    values: dict[str, int | float] = {
        "training.steps": automatic_steps(views, settings.training.batch, settings.training.accumulation),
        "training.clip_skip": clip_skip,
        "optimizer.unet_rate": unet,
        "optimizer.text_encoder_rate": text,
    }
    given = {
        "unet": settings.optimizer.unet_rate,
        "text encoder": settings.optimizer.text_encoder_rate if settings.network.text_encoder else None,
    }
    chosen = {group: rate for group, rate in given.items() if rate is not None}
    for path, value in values.items():
        section, _, name = path.partition(".")
        if getattr(getattr(settings, section), name) is None:
            settings = replaced(settings, path, value)
    notes = rate_warnings(settings.optimizer.name, chosen, {"unet": unet, "text encoder": text})
    if "unet" not in chosen:
        notes.append(f"Learning rate {unet:.3g} for the UNet, following {settings.optimizer.name} and alpha / rank.")
    return settings, notes


def arithmetic(settings: Settings, views: int) -> str:
    """How often each picture is seen, in one sentence."""
    per_step = settings.training.batch * settings.training.accumulation
    steps = settings.training.steps or 0
    return f"{steps} steps of {per_step} picture{'s' * (per_step > 1)}: each of the {views} is seen about {steps * per_step / views:.0f} times."


@dataclass
class Assembly:
    """Everything a run works with, made while the view was bound."""

    model: BorrowedModel
    adapter: Adapter
    trainer: Trainer
    plan: DataPlan
    batches: Batches
    text: TextEncoder
    recipe: Recipe
    needs: tuple[str, ...]
    """Parts of the model that training steps use."""


def borrowed(lease: Lease, tools: TextTools) -> BorrowedModel:
    """A view that fits the leased weights, not bound.

    Raises:
        CheckpointError: another family of models.
    """
    return BorrowedModel(layout.infer(lease.tensors, tools.heads, tools.activation))


def assemble(
    settings: Settings,
    found: Dataset,
    model: BorrowedModel,
    lease: Lease,
    tools: TextTools,
    info: CheckpointInfo,
    cache_folder: Path,
    turns: Turns,
    report: Callable[[StepReport], None],
) -> Assembly:
    """Make the objects of a run from resolved settings; ``model`` is bound.

    Raises:
        InputError: a library is missing or a precision cannot be had.
    """
    base = model.unet.conv_in.weight.dtype
    compute = precision.choose(settings.training.precision, base, lease.device)
    adapter = adapter_of(settings, model)
    trains_text = bool(adapter.parameters("text"))
    text = TextEncoder(
        model.text, tools.tokenizer, settings.training.clip_skip or 1, settings.data.max_tokens, 0 if trains_text else _TEXTS_KEPT
    )
    _prepare_modes(settings, model, adapter)
    denoiser = Denoiser(model.unet, lease.alphas_cumprod.clone(), lease.scale_factor, info.prediction, objective(settings))
    method = LoraMethod(adapter, text, denoiser)
    plan = data_plan(settings, found)
    batches = _batches(settings, plan, model, lease, cache_folder)
    trainer = _trainer(settings, method, batches, compute, turns, report)
    return Assembly(model, adapter, trainer, plan, batches, text, _recipe(settings, found, plan, adapter, info), ("unet", "text"))


def adapter_of(settings: Settings, model: BorrowedModel) -> Adapter:
    """The adapter, attached to a view that is bound."""
    network = settings.network
    targets = unet_targets(model.unet, network.targets, network.rank, network.alpha, network.conv_rank, network.conv_alpha)
    if network.text_encoder:
        targets += text_targets(model.text, network.rank, network.alpha)
    # Adapters draw their first values from the global state, which the turn gives back afterwards.
    torch.manual_seed(settings.training.seed)
    return ADAPTERS[network.adapter]({"unet": model.unet, "text": model.text}, targets, AdapterOptions(network.dropout, network.factor))


def _prepare_modes(settings: Settings, model: BorrowedModel, adapter: Adapter) -> None:
    if settings.training.gradient_checkpointing:
        model.unet.enable_gradient_checkpointing()
        model.unet.train()  # diffusers checkpoints in training mode only; SD1.5's UNet has no dropout of its own
    adapter.train(True)


def objective(settings: Settings) -> Objective:
    """The objective's fields, by name."""
    return Objective(**{field.name: getattr(settings.objective, field.name) for field in dataclasses.fields(Objective)})


def data_plan(settings: Settings, found: Dataset) -> DataPlan:
    """Order, crops and captions of a run."""
    data = settings.data
    return DataPlan(
        found.subject.pictures,
        found.classes.pictures if found.classes else (),
        resolution=data.resolution,
        buckets=data.buckets,
        batch=settings.training.batch,
        seed=settings.training.seed,
        crop=data.crop,
        flip=data.flip,
        trigger=data.trigger,
        class_word=data.class_word,
        template=data.template,
        shuffle_tags=data.shuffle_tags,
        keep_tags=data.keep_tags,
        tag_dropout=data.tag_dropout,
        caption_dropout=data.caption_dropout,
    )


def _batches(settings: Settings, plan: DataPlan, model: BorrowedModel, lease: Lease, cache_folder: Path) -> Batches:
    vae = digest({name: tensor for name, tensor in lease.tensors.items() if name.startswith(layout.VAE)})
    precise = str(model.vae.quant_conv.weight.dtype)
    vae_key = hashlib.sha256(repr((sorted(vae.items()), precise)).encode()).hexdigest()
    cache = LatentCache(cache_folder if settings.data.disk_cache else None, vae_key=vae_key)
    return Batches(plan, cache, lambda pixels: encode(model, pixels), settings.objective.prior_weight)


def _trainer(
    settings: Settings,
    method: LoraMethod,
    batches: Batches,
    compute: precision.Precision,
    turns: Turns,
    report: Callable[[StepReport], None],
) -> Trainer:
    chosen, training = settings.optimizer, settings.training
    steps = training.steps or 0
    groups = method.parameters()
    named = {name: parameter for group in groups.values() for name, parameter in group.items()}
    ledger = Ledger(named, steps, not compute.scales, report)
    turns.before_close(ledger.fetch)
    return Trainer(
        method=method,
        batches=batches.batch,
        optimizer=OPTIMIZERS[chosen.name].build({group: list(values.values()) for group, values in groups.items()}, chosen.weight_decay),
        precision=compute,
        ema=Ema(named, training.ema_decay),
        ledger=ledger,
        turns=turns,
        plan=Plan(steps, training.accumulation, chosen.clip_norm, training.seed, lambda step: step_rates(settings, step)),
    )


def group_rates(settings: Settings) -> dict[str, float]:
    """Highest learning rate by parameter group, of resolved settings."""
    text = settings.optimizer.text_encoder_rate if settings.network.text_encoder else 0.0
    return {"unet": settings.optimizer.unet_rate or 0.0, "text encoder": text or 0.0}


def step_rates(settings: Settings, step: int) -> dict[str, float]:
    """Learning rate of step ``step`` (0-based) by parameter group, of resolved settings."""
    chosen = settings.optimizer
    factor = rates.factor(chosen.schedule, step, settings.training.steps or 0, chosen.warmup, chosen.restarts, chosen.power)
    return {group: peak * factor for group, peak in group_rates(settings).items()}


def _recipe(settings: Settings, found: Dataset, plan: DataPlan, adapter: Adapter, info: CheckpointInfo) -> Recipe:
    data, network, training = settings.data, settings.network, settings.training
    pictures = found.subject.pictures
    steps = training.steps or 0
    return Recipe(
        name=settings.name,
        network_module=adapter.network_module,
        rank=network.rank,
        alpha=network.alpha,
        network_args=_network_args(settings),
        checkpoint=info.name,
        checkpoint_sha256=info.sha256,
        checkpoint_short_hash=info.short_hash,
        vae=info.vae,
        prediction=info.prediction,
        clip_skip=training.clip_skip or 1,
        resolution=data.resolution,
        steps=steps,
        epochs=-(-steps * training.accumulation // max(1, plan.epoch_steps)),
        rates=group_rates(settings),
        optimizer=settings.optimizer.name,
        schedule=settings.optimizer.schedule,
        seed=training.seed,
        started_at=time.time(),
        settings=public_settings(settings),
        trigger=data.trigger,
        buckets=plan.bucket_counts(),
        folders=Counter(picture.path.parent.name for picture in pictures),
        captions=plan.captions,
    )


def _network_args(settings: Settings) -> Mapping[str, str]:
    network = settings.network
    found: dict[str, str] = {}
    if network.adapter != "lora":
        found["algo"] = network.adapter
    if network.adapter == "lokr":
        found["factor"] = str(network.factor)
    if network.conv_rank:
        found |= {"conv_dim": str(network.conv_rank), "conv_alpha": str(network.conv_alpha)}
    if network.dropout:
        found["dropout"] = str(network.dropout)
    return found


def public_settings(settings: Settings) -> str:
    """The settings as JSON for a file that others may get: folders are named without their path."""
    for path in ("data.images", "data.class_images"):
        section, _, name = path.partition(".")
        folder = getattr(getattr(settings, section), name)
        settings = replaced(settings, path, Path(folder).name if folder else "")
    return json.dumps(to_dict(settings), ensure_ascii=False)
