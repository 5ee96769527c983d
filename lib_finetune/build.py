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
from typing import TYPE_CHECKING, Any

import torch

from lib_finetune.adapters import ADAPTERS, Adapter, AdapterOptions
from lib_finetune.adapters.targets import text_targets, unet_targets
from lib_finetune.config.codec import to_dict
from lib_finetune.config.fields import replaced, value_at
from lib_finetune.config.settings import Settings
from lib_finetune.data.batches import Batches
from lib_finetune.data.cache import LatentCache
from lib_finetune.data.plan import Plan as DataPlan
from lib_finetune.data.scan import Report, scan
from lib_finetune.data.templates import load as load_templates
from lib_finetune.engine import precision
from lib_finetune.engine.ema import Ema
from lib_finetune.engine.ledger import Ledger
from lib_finetune.engine.loop import Plan, Trainer
from lib_finetune.engine.method import Method
from lib_finetune.engine.turns import Turns
from lib_finetune.errors import InputError, Problem
from lib_finetune.export import embedding_file
from lib_finetune.export.metadata import Recipe
from lib_finetune.maths import rates
from lib_finetune.methods.denoising import Denoiser, Objective
from lib_finetune.methods.lora import LoraMethod
from lib_finetune.methods.textual_inversion import TextualInversionMethod
from lib_finetune.model import layout
from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.digest import digest
from lib_finetune.model.learned import LearnedVectors, first_values, ids_of
from lib_finetune.model.prompts import TextEncoder
from lib_finetune.model.sampling import encode
from lib_finetune.optim import OPTIMIZERS, automatic_rates, rate_warnings

if TYPE_CHECKING:
    from collections.abc import Callable

    from lib_finetune.ports import CheckpointInfo, Lease, Paths, StepReport, TextTools

VIEWS_PER_PICTURE = {"lora": 100, "textual_inversion": 250}
STEPS_LOW_HIGH = {"lora": (500, 3000), "textual_inversion": (1000, 4000)}
_EMBEDDING_FILES = (".safetensors", ".pt", ".bin")
_EMBEDDING_RATE = 50
"""An embedding's learning rate against that of a patch with alpha = rank: 5e-3 with AdamW."""
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


def method_problems(settings: Settings) -> list[Problem]:
    """What is wrong with the method's own settings, as far as files tell."""
    if settings.method != "textual_inversion":
        return []
    problems, own = [], settings.embedding
    if settings.data.class_images:
        problems.append(Problem("data.class_images", "Class pictures teach an embedding nothing. Leave them out, or train a LoRA."))
    try:
        if own.template:
            load_templates(own.template, "embedding.template")
        if _is_file(own.init):
            found = len(embedding_file.read(Path(own.init).expanduser(), "embedding.init"))
            if found != own.vectors:
                problems.append(Problem("embedding.vectors", f"{own.vectors}, but {own.init} has {found}. Set it to {found}."))
    except InputError as error:
        problems += error.problems
    return problems


def _is_file(init: str) -> bool:
    return Path(init).suffix in _EMBEDDING_FILES


def word_problems(settings: Settings, tokenizer: Any, paths: Paths) -> list[Problem]:
    """Whether the name of an embedding would get in the way: of a word, or of another embedding."""
    name = settings.name.strip()
    if settings.method != "textual_inversion" or not name:
        return []
    problems = []
    if len(ids_of(tokenizer, name)) <= 1:
        problems.append(
            Problem(
                "name",
                f"{name!r} is a word that the model knows, and every prompt with it would change. Choose another, for example my-{name}.",
            )
        )
    for path in paths.embeddings.rglob("*") if paths.embeddings.is_dir() else ():
        same = path.stem.lower() == name.lower() and path.suffix.lower() in (*_EMBEDDING_FILES, ".png", ".webp")
        if same and path != paths.embeddings / f"{name}.{settings.embedding.format}":
            problems.append(Problem("name", f"There is an embedding {name} already: {path}. Choose another name, for example {name}-2."))
    return problems


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
    rates_of = _embedding_rates if settings.method == "textual_inversion" else _patch_rates
    automatic, given = rates_of(settings)
    values: dict[str, int | float] = {
        "training.steps": automatic_steps(views, training.batch, training.accumulation, settings.method),
        "training.clip_skip": clip_skip,
        **{_RATES[group]: rate for group, rate in automatic.items()},
    }
    for path, value in values.items():
        if value_at(settings, path) is None:
            settings = replaced(settings, path, value)
    chosen = {group: rate for group, rate in given.items() if rate is not None}
    notes = rate_warnings(settings.optimizer.name, chosen, automatic)
    first, rate = next(iter(automatic.items()))
    if first not in chosen:
        follows = settings.optimizer.name + (" and alpha / rank" if first == "unet" else "")
        notes.append(f"Learning rate {rate:.3g} for the {_SPOKEN.get(first, first)}, following {follows}.")
    if settings.method == "textual_inversion":
        notes += _word_notes(settings)
        settings = replaced(settings, "data.trigger", settings.name)
    return settings, notes


_RATES = {"unet": "optimizer.unet_rate", "text encoder": "optimizer.text_encoder_rate", "embedding": "embedding.rate"}
_SPOKEN = {"unet": "UNet"}


def _patch_rates(settings: Settings) -> tuple[dict[str, float], dict[str, float | None]]:
    """Automatic and given rates of the family of LoRA."""
    chosen, network = settings.optimizer, settings.network
    unet, text = automatic_rates(OPTIMIZERS[chosen.name], network.rank, network.alpha)
    given = {"unet": chosen.unet_rate, "text encoder": chosen.text_encoder_rate if network.text_encoder else None}
    return {"unet": unet, "text encoder": text}, given


def _embedding_rates(settings: Settings) -> tuple[dict[str, float], dict[str, float | None]]:
    kind = OPTIMIZERS[settings.optimizer.name]
    own = automatic_rates(kind, 1, 1.0)[0]
    return {"embedding": own if kind.rate_factor is None else own * _EMBEDDING_RATE}, {"embedding": settings.embedding.rate}


def _word_notes(settings: Settings) -> list[str]:
    count, given = settings.embedding.vectors, settings.data.trigger
    notes = [f"In a prompt, {settings.name} takes {count} of the 75 tokens."]
    if given and given != settings.name:
        notes.append(f"An embedding is called by its file name: write {settings.name} in prompts, not {given}.")
    return notes


def arithmetic(settings: Settings, views: int) -> str:
    """How often each picture is seen, in one sentence."""
    per_step = settings.training.batch * settings.training.accumulation
    steps = settings.training.steps or 0
    return f"{steps} steps of {per_step} picture{'s' * (per_step > 1)}: each of the {views} is seen about {steps * per_step / views:.0f} times."


@dataclass
class Assembly:
    """Everything a run works with, made while the view was bound."""

    model: BorrowedModel
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
    denoiser = Denoiser(model.unet, lease.alphas_cumprod.clone(), lease.scale_factor, info.prediction, objective(settings))
    method, text, network_module = _METHODS[settings.method](settings, model, tools, denoiser)
    _prepare_modes(settings, model)
    plan = data_plan(settings, found)
    batches = _batches(settings, plan, model, lease, cache_folder)
    trainer = _trainer(settings, method, batches, compute, turns, report)
    return Assembly(model, trainer, plan, batches, text, _recipe(settings, found, plan, network_module, info), ("unet", "text"))


def _lora(settings: Settings, model: BorrowedModel, tools: TextTools, denoiser: Denoiser) -> tuple[Method, TextEncoder, str]:
    adapter = adapter_of(settings, model)
    adapter.train(True)
    text = _text_encoder(settings, model, tools, kept=0 if adapter.parameters("text") else _TEXTS_KEPT)
    return LoraMethod(adapter, text, denoiser), text, adapter.network_module


def _textual_inversion(settings: Settings, model: BorrowedModel, tools: TextTools, denoiser: Denoiser) -> tuple[Method, TextEncoder, str]:
    own = settings.embedding
    vectors = torch.nn.Parameter(_first_vectors(settings, model, tools))
    learned = LearnedVectors(model.text, tools.tokenizer, {settings.name: vectors})
    text = _text_encoder(settings, model, tools, learned=learned)
    return TextualInversionMethod(vectors, own.keep_norm, text, denoiser), text, ""


_METHODS = {"lora": _lora, "textual_inversion": _textual_inversion}


def _first_vectors(settings: Settings, model: BorrowedModel, tools: TextTools) -> torch.Tensor:
    own, table = settings.embedding, model.text.embeddings.token_embedding.weight
    if not _is_file(own.init):
        ids = ids_of(tools.tokenizer, own.init or settings.data.class_word)
        return first_values(table, ids, own.vectors, settings.training.seed)
    stored = embedding_file.read(Path(own.init).expanduser(), "embedding.init")
    if stored.shape[1] != table.shape[1]:
        said = f"{own.init} is {stored.shape[1]} wide, the loaded model's text encoder {table.shape[1]}: it belongs to another family of models."
        raise InputError([Problem("embedding.init", said)])
    return stored.to(table.device)


def _text_encoder(settings: Settings, model: BorrowedModel, tools: TextTools, **how: Any) -> TextEncoder:
    return TextEncoder(model.text, tools.tokenizer, settings.training.clip_skip or 1, settings.data.max_tokens, **how)


def adapter_of(settings: Settings, model: BorrowedModel) -> Adapter:
    """The adapter, attached to a view that is bound."""
    network = settings.network
    targets = unet_targets(model.unet, network.targets, network.rank, network.alpha, network.conv_rank, network.conv_alpha)
    if network.text_encoder:
        targets += text_targets(model.text, network.rank, network.alpha)
    # Adapters draw their first values from the global state, which the turn gives back afterwards.
    torch.manual_seed(settings.training.seed)
    return ADAPTERS[network.adapter]({"unet": model.unet, "text": model.text}, targets, AdapterOptions(network.dropout, network.factor))


def _prepare_modes(settings: Settings, model: BorrowedModel) -> None:
    if settings.training.gradient_checkpointing:
        model.unet.enable_gradient_checkpointing()
        model.unet.train()  # diffusers checkpoints in training mode only; SD1.5's UNet has no dropout of its own


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
        templates=_templates(settings),
        templates_win=bool(settings.embedding.template),
        shuffle_tags=data.shuffle_tags,
        keep_tags=data.keep_tags,
        tag_dropout=data.tag_dropout,
        caption_dropout=data.caption_dropout,
    )


def _templates(settings: Settings) -> tuple[str, ...]:
    if settings.method != "textual_inversion":
        return ()
    return load_templates(settings.embedding.template or "subject", "embedding.template")


def _batches(settings: Settings, plan: DataPlan, model: BorrowedModel, lease: Lease, cache_folder: Path) -> Batches:
    vae = digest({name: tensor for name, tensor in lease.tensors.items() if name.startswith(layout.VAE)})
    precise = str(model.vae.quant_conv.weight.dtype)
    vae_key = hashlib.sha256(repr((sorted(vae.items()), precise)).encode()).hexdigest()
    cache = LatentCache(cache_folder if settings.data.disk_cache else None, vae_key=vae_key)
    return Batches(plan, cache, lambda pixels: encode(model, pixels), settings.objective.prior_weight)


def _trainer(
    settings: Settings,
    method: Method,
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
    if settings.method == "textual_inversion":
        return {"embedding": settings.embedding.rate or 0.0}
    text = settings.optimizer.text_encoder_rate if settings.network.text_encoder else 0.0
    return {"unet": settings.optimizer.unet_rate or 0.0, "text encoder": text or 0.0}


def step_rates(settings: Settings, step: int) -> dict[str, float]:
    """Learning rate of step ``step`` (0-based) by parameter group, of resolved settings."""
    chosen = settings.optimizer
    factor = rates.factor(chosen.schedule, step, settings.training.steps or 0, chosen.warmup, chosen.restarts, chosen.power)
    return {group: peak * factor for group, peak in group_rates(settings).items()}


def _recipe(settings: Settings, found: Dataset, plan: DataPlan, network_module: str, info: CheckpointInfo) -> Recipe:
    data, network, training = settings.data, settings.network, settings.training
    pictures = found.subject.pictures
    steps = training.steps or 0
    return Recipe(
        name=settings.name,
        network_module=network_module,
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
