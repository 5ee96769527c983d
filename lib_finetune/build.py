"""Settings to objects: the only place that unpacks the settings tree."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lib_finetune import beginning
from lib_finetune.adapters import ADAPTERS, Adapter, AdapterOptions, Target
from lib_finetune.adapters.targets import text_targets, unet_targets
from lib_finetune.config.codec import to_dict
from lib_finetune.config.fields import replaced, value_at
from lib_finetune.config.settings import (
    Network,
    Settings,
    bundles_word,
    caption_template,
    class_template,
    patches,
    teaches_word,
    word_templates,
)
from lib_finetune.data.batches import Batches
from lib_finetune.data.cache import LatentCache
from lib_finetune.data.captions import template_caption
from lib_finetune.data.plan import Plan as DataPlan
from lib_finetune.data.scan import Examined, Picture, Report, examined, scan
from lib_finetune.data.templates import load as load_templates
from lib_finetune.engine import precision
from lib_finetune.engine.ema import Ema
from lib_finetune.engine.ledger import Ledger
from lib_finetune.engine.loop import Plan, Trainer
from lib_finetune.engine.method import Method
from lib_finetune.engine.turns import Turns
from lib_finetune.errors import InputError, Problem
from lib_finetune.evaluate.validation import DRAWS, Validation
from lib_finetune.export import embedding_file
from lib_finetune.export.metadata import Recipe
from lib_finetune.files import at_home
from lib_finetune.maths import rates
from lib_finetune.maths.noise import step_seed
from lib_finetune.methods.denoising import Denoiser, Objective, PriorPrediction
from lib_finetune.methods.dreambooth import DreamBoothMethod
from lib_finetune.methods.lora import LoraMethod
from lib_finetune.methods.pivotal_tuning import PivotalTuningMethod
from lib_finetune.methods.textual_inversion import TextualInversionMethod
from lib_finetune.model import checkpoint_file, layout, word_name
from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.digest import digest
from lib_finetune.model.learned import LearnedVectors, first_values, ids_of
from lib_finetune.model.names import kohya_module
from lib_finetune.model.prompts import TextEncoder
from lib_finetune.model.sampling import encode
from lib_finetune.optim import OPTIMIZERS, automatic_rates, rate_warnings
from lib_finetune.optim.per_parameter import PerParameter

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.optim import Optimizer

    from lib_finetune.ports import CheckpointInfo, Lease, Paths, StepReport, TextTools

VIEWS_PER_PICTURE = {"lora": 100, "dreambooth": 100, "textual_inversion": 250, "pivotal_tuning": 100}
STEPS_LOW_HIGH = {"lora": (500, 3000), "dreambooth": (400, 2400), "textual_inversion": (1000, 4000), "pivotal_tuning": (500, 3000)}
_DREAMBOOTH_RATE = 0.02
"""The whole model's learning rate against that of a patch with alpha = rank: 2e-6 with AdamW (the paper: 1e-6 to 5e-6)."""
_EMBEDDING_FILES = (".safetensors", ".pt", ".bin")
_EMBEDDING_RATE = 50
"""An embedding's learning rate against that of a patch with alpha = rank: 5e-3 with AdamW."""
_PIVOT_RATE = 5
"""The same where patches help the embedding: 5e-4."""
_TEXTS_KEPT = 512
_PREVIEWS = 4
"""In a run, where the person sets no number of steps: the base, three points of the way and the result stand side by side."""
_FEWEST = 3
"""Pictures that are left to train on when some are held out."""
_VALIDATION = 3
"""The stream of random numbers of validation; 1 and 2 are those of a step."""


@dataclass(frozen=True)
class Dataset:
    """The pictures of a run, found and read."""

    subject: Report
    classes: Report | None
    held: tuple[Picture, ...] = ()
    """Of the subject's, those that are not trained on."""

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """The subject's that are trained on."""
        return tuple(picture for picture in self.subject.pictures if picture not in self.held)

    @property
    def everything(self) -> tuple[Picture, ...]:
        """The subject's and the class's."""
        return (*self.subject.pictures, *(self.classes.pictures if self.classes else ()))

    @property
    def views(self) -> int:
        """Pictures an epoch shows, repeats counted."""
        return sum(picture.repeats for picture in self.pictures)


def dataset(settings: Settings, look: Callable[[Path], Examined | str] = examined) -> Dataset:
    """Find the pictures.

    Args:
        look: see `scan`.

    Raises:
        InputError: a folder is missing, unreadable or without a usable picture; both folders' problems at once.
    """
    problems: list[Problem] = []
    found: dict[str, Report] = {}
    for field, folder in (("images", settings.data.images), ("class_images", settings.data.class_images)):
        try:
            if folder:
                found[field] = scan(at_home(folder), field=f"data.{field}", look=look)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return Dataset(found["images"], found.get("class_images"), _held_out(settings, found["images"].pictures))


def _held_out(settings: Settings, pictures: Sequence[Picture]) -> tuple[Picture, ...]:
    """The pictures for validation, drawn by the seed."""
    count, seed = settings.data.held_out, settings.training.seed
    most = min(len(pictures) // 3, len(pictures) - _FEWEST)
    if count and count > most:
        said = f"{count} of {len(pictures)} pictures: two thirds of them, and at least {_FEWEST}, must be left to train on. "
        said += f"Set it to {most} or less, or add pictures." if most > 0 else "Set it to 0, or add pictures."
        raise InputError([Problem("data.held_out", said)])
    return tuple(pictures[place] for place in sorted(random.Random(f"{seed}/held out").sample(range(len(pictures)), count)))


def method_problems(settings: Settings) -> list[Problem]:
    """What is wrong with the method's own settings, as far as files tell."""
    begins = beginning.problems(settings)
    if not teaches_word(settings):
        return begins + _prior_problems(settings) + (_tuning_problems(settings) if settings.method == "dreambooth" else [])
    problems, own = begins, settings.embedding
    if settings.method == "pivotal_tuning":
        problems += _prior_problems(settings) + _pivot_problems(settings)
    else:
        given = {"data.class_images": settings.data.class_images, "data.class_count": settings.data.class_count}
        said = "Class pictures teach an embedding nothing. Leave them out, or train a LoRA."
        problems += [Problem(field, said) for field, value in given.items() if value]
    try:
        if own.template:
            load_templates(own.template, "embedding.template")
        if _is_file(own.init):
            found = len(embedding_file.read(at_home(own.init), "embedding.init"))
            if found != own.vectors:
                problems.append(Problem("embedding.vectors", f"{own.vectors}, but {own.init} has {found}. Set it to {found}."))
    except InputError as error:
        problems += error.problems
    return problems


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


def class_caption(settings: Settings) -> str:
    """The caption of a class picture without a text file."""
    return template_caption(class_template(settings), "", settings.data.class_word)


def _prior_problems(settings: Settings) -> list[Problem]:
    data, prior = settings.data, prior_of(settings)
    problems = []
    makes = prior == "pictures" and not data.class_images
    if (prior == "prediction" or (makes and data.class_count)) and not data.class_word.strip():
        problems.append(Problem("data.class_word", "is empty, and the class is to be kept. Say what the subject is: woman, dog, car."))
    if makes and not data.class_count:
        said = "is 0, and there is no folder of class pictures. Set how many are to be made (200 is usual), or choose prediction."
        problems.append(Problem("data.class_count", said))
    return problems


def _tuning_problems(settings: Settings) -> list[Problem]:
    problems, tuning, training = [], settings.tuning, settings.training
    if not settings.data.trigger.strip():
        problems.append(
            Problem("data.trigger", "is empty. DreamBooth teaches a new word what your subject is; a rare one such as sks works best.")
        )
    if tuning.in_backward == "on" and training.accumulation > 1:
        said = "Gradients cannot be summed when each weight moves at once: set training.accumulation to 1, or tuning.in_backward to off."
        problems.append(Problem("tuning.in_backward", said))
    if tuning.weights == "bf16" and training.ema_decay:
        said = "An average in bf16 would not move: set tuning.weights to fp32, or training.ema_decay to 0."
        problems.append(Problem("training.ema_decay", said))
    if tuning.in_backward == "on" and training.precision == "fp16":
        said = "The loss scaling that fp16 needs looks at all gradients together: choose bf16, or set tuning.in_backward to off."
        problems.append(Problem("tuning.in_backward", said))
    return problems


def _pivot_problems(settings: Settings) -> list[Problem]:
    problems, name = [], settings.name
    if bundles_word(settings) and "." in name:
        said = f"{name!r} has a dot, at which the WebUI ends a word inside a LoRA file. Write {name.replace('.', '-')}, or switch off embedding.bundle."
        problems.append(Problem("name", said))
    if settings.embedding.until == 0 and not _is_file(settings.embedding.init) and not beginning.brings_word(settings):
        said = "is 0, so the word would never learn. Set it to 0.5, or name an embedding file that it begins with (embedding.init)."
        problems.append(Problem("embedding.until", said))
    return problems


def _is_file(init: str) -> bool:
    return Path(init).suffix in _EMBEDDING_FILES


def word_problems(settings: Settings, found: Dataset | None, tokenizer: Any, paths: Paths) -> list[Problem]:
    """Whether the name of an embedding would get in the way: of words, of the captions', or of another embedding."""
    name = settings.name.strip()
    if not teaches_word(settings) or not name:
        return []
    problems = []
    own = None if bundles_word(settings) else paths.embeddings / f"{name}.{settings.embedding.format}"
    texts = [picture.caption or "" for picture in found.everything] if found else [], _around(settings)
    if reason := word_name.refusal(tokenizer, name, *texts):
        problems.append(Problem("name", f"{reason} Choose another, for example {word_name.proposal(tokenizer, name, *texts)}."))
    for path in paths.embeddings.rglob("*") if paths.embeddings.is_dir() else ():
        same = path.stem.lower() == name.lower() and path.suffix.lower() in (*_EMBEDDING_FILES, ".png", ".webp")
        if same and path != own:
            problems.append(Problem("name", f"There is an embedding {name} already: {path}. Choose another name, for example {name}-2."))
    return problems


def _around(settings: Settings) -> list[str]:
    """Templates and class word, without the word that is taught; a list of templates that cannot be read is told elsewhere."""
    try:
        templates = _templates(settings)
    except InputError:
        templates = ()
    return [*(template_caption(template, "", "") for template in (*templates, caption_template(settings))), settings.data.class_word]


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
    automatic, given = _RATES_OF[settings.method](settings)
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
    chosen = {group: rate for group, rate in given.items() if rate is not None}
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
    given = {"unet": chosen.unet_rate, "text encoder": chosen.text_encoder_rate if network.text_encoder else None}
    return {"unet": unet, "text encoder": text}, given


def _model_rates(settings: Settings) -> tuple[dict[str, float], dict[str, float | None]]:
    """Automatic and given rates of DreamBooth."""
    chosen, kind = settings.optimizer, OPTIMIZERS[settings.optimizer.name]
    own = automatic_rates(kind, 1, 1.0)[0] * (1.0 if kind.rate_factor is None else _DREAMBOOTH_RATE)
    given = {"unet": chosen.unet_rate, "text encoder": chosen.text_encoder_rate if settings.tuning.text_encoder_until else None}
    return {"unet": own, "text encoder": own if kind.rate_factor is None else own / 2}, given


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
    count, given = settings.embedding.vectors, settings.data.trigger
    notes = [f"In a prompt, {settings.name} takes {count} of the 75 tokens."]
    if given and given != settings.name:
        notes.append(f"The word is the name of the result: write {settings.name} in prompts, not {given}.")
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
    validation: Validation | None = None
    held: Batches | None = None
    """The pictures held out; a micro step each."""


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
    denoiser = Denoiser(model.unet, lease.alphas_cumprod.clone(), lease.scale_factor, info.prediction, objective(settings))
    method, text, network_module = _METHODS[settings.method](settings, model, tools, denoiser)
    compute = precision.choose(settings.training.precision, model.unet.conv_in.weight.dtype, lease.device)
    _prepare_modes(settings, model)
    plan = data_plan(settings, found)
    cache = _cache(settings, model, lease, cache_folder)
    batches = _batches(settings, plan, model, cache)
    trainer = _trainer(settings, method, batches, compute, turns, report)
    recipe = _recipe(settings, found, plan, network_module, info)
    made = Assembly(model, trainer, plan, batches, text, recipe, ("unet", "text"))
    if found.held:
        held = _batches(settings, plan_of_held(plan, found.held), model, cache)
        made = dataclasses.replace(made, held=held, validation=_validation(settings, trainer, held, len(found.held)))
    return made


def plan_of_held(plan: DataPlan, held: Sequence[Picture]) -> DataPlan:
    """Each picture once an epoch, in the same way every time."""
    once = [dataclasses.replace(picture, repeats=1) for picture in held]
    crop = "centre" if plan.crop == "random" else plan.crop
    return dataclasses.replace(
        plan, pictures=once, class_pictures=(), batch=1, crop=crop, flip=False, shuffle_tags=False, tag_dropout=0.0, caption_dropout=0.0
    )


def _validation(settings: Settings, trainer: Trainer, held: Batches, count: int) -> Validation:
    method, seed = trainer.method, settings.training.seed

    def loss(picture: int, draw: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(step_seed(seed, picture * DRAWS + draw, _VALIDATION))
        method.train(False)
        try:
            with trainer.precision.context():
                return method.loss(held.batch(picture), generator)[0]
        finally:
            method.train(True)

    named = {name: parameter for group in method.parameters().values() for name, parameter in group.items()}
    return Validation(count, loss, named, settings.training.validate_every)


def _lora(settings: Settings, model: BorrowedModel, tools: TextTools, denoiser: Denoiser) -> tuple[Method, TextEncoder, str]:
    adapter = adapter_of(settings, model)
    adapter.train(True)
    text = _text_encoder(settings, model, tools, kept=0 if adapter.parameters("text") else _TEXTS_KEPT)
    return LoraMethod(adapter, text, denoiser, _prior(settings, adapter.off)), text, adapter.network_module


def _dreambooth(settings: Settings, model: BorrowedModel, tools: TextTools, denoiser: Denoiser) -> tuple[Method, TextEncoder, str]:
    parts = ("unet", "text") if settings.tuning.text_encoder_until else ("unet",)
    weights = model.own(parts, precision.DTYPES[settings.tuning.weights])
    text = _text_encoder(settings, model, tools, kept=0 if "text" in parts else _TEXTS_KEPT)
    return DreamBoothMethod(weights, text, denoiser, _prior(settings, model.as_lent)), text, ""


def _prior(settings: Settings, base: Callable[[], AbstractContextManager[None]]) -> PriorPrediction | None:
    if prior_of(settings) != "prediction":
        return None
    return PriorPrediction(class_caption(settings), settings.objective.prior_weight, base)


def _textual_inversion(settings: Settings, model: BorrowedModel, tools: TextTools, denoiser: Denoiser) -> tuple[Method, TextEncoder, str]:
    vectors, learned = _word(settings, model, tools)
    text = _text_encoder(settings, model, tools, learned=learned)
    return TextualInversionMethod(vectors, settings.embedding.keep_norm, text, denoiser), text, ""


def _pivotal_tuning(settings: Settings, model: BorrowedModel, tools: TextTools, denoiser: Denoiser) -> tuple[Method, TextEncoder, str]:
    vectors, learned = _word(settings, model, tools)
    adapter = adapter_of(settings, model)
    adapter.train(True)
    text = _text_encoder(settings, model, tools, learned=learned)
    word = TextualInversionMethod(vectors, settings.embedding.keep_norm, text, denoiser)
    method = PivotalTuningMethod(LoraMethod(adapter, text, denoiser, _prior(settings, adapter.off)), word)
    return method, text, adapter.network_module


def _word(settings: Settings, model: BorrowedModel, tools: TextTools) -> tuple[torch.nn.Parameter, LearnedVectors]:
    vectors = torch.nn.Parameter(_first_vectors(settings, model, tools))
    return vectors, LearnedVectors(model.text, tools.tokenizer, {settings.name: vectors})


_METHODS = {"lora": _lora, "dreambooth": _dreambooth, "textual_inversion": _textual_inversion, "pivotal_tuning": _pivotal_tuning}


def _first_vectors(settings: Settings, model: BorrowedModel, tools: TextTools) -> torch.Tensor:
    own, table = settings.embedding, model.text.embeddings.token_embedding.weight
    if (begins := beginning.vectors(settings)) is not None:
        return _of_width(begins, table, settings.network.start, "network.start")
    if not _is_file(own.init):
        ids = ids_of(tools.tokenizer, own.init or settings.data.class_word)
        return first_values(table, ids, own.vectors, settings.training.seed)
    return _of_width(embedding_file.read(at_home(own.init), "embedding.init"), table, own.init, "embedding.init")


def _of_width(stored: torch.Tensor, table: torch.Tensor, name: str, field: str) -> torch.Tensor:
    if stored.shape[1] != table.shape[1]:
        said = (
            f"{name} is {stored.shape[1]} wide, the loaded model's text encoder {table.shape[1]}: it belongs to another family of models."
        )
        raise InputError([Problem(field, said)])
    return stored.to(table.device)


def _text_encoder(settings: Settings, model: BorrowedModel, tools: TextTools, **how: Any) -> TextEncoder:
    return TextEncoder(model.text, tools.tokenizer, settings.training.clip_skip or 1, settings.data.max_tokens, **how)


def adapter_of(settings: Settings, model: BorrowedModel) -> Adapter:
    """The adapter, attached to a view that is bound.

    Raises:
        InputError: the file that it begins with does not fit.
    """
    network = settings.network
    # Adapters draw their first values from the global state, which the turn gives back afterwards.
    torch.manual_seed(settings.training.seed)
    options = AdapterOptions(network.dropout, network.factor)
    adapter = ADAPTERS[network.adapter]({"unet": model.unet, "text": model.text}, patch_targets(network, model), options)
    beginning.put(settings, adapter)
    return adapter


def patch_targets(network: Network, model: BorrowedModel) -> list[Target]:
    """The modules that get a patch."""
    targets = unet_targets(model.unet, network.targets, network.rank, network.alpha, network.conv_rank, network.conv_alpha)
    return targets + (text_targets(model.text, network.rank, network.alpha) if network.text_encoder else [])


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
        found.pictures,
        found.classes.pictures if found.classes and prior_of(settings) == "pictures" else (),
        resolution=data.resolution,
        buckets=data.buckets,
        batch=settings.training.batch,
        seed=settings.training.seed,
        crop=data.crop,
        flip=data.flip,
        trigger=data.trigger,
        class_word=data.class_word,
        template=caption_template(settings),
        class_template=class_template(settings),
        templates=_templates(settings),
        templates_win=bool(settings.embedding.template),
        shuffle_tags=data.shuffle_tags,
        keep_tags=data.keep_tags,
        tag_dropout=data.tag_dropout,
        caption_dropout=data.caption_dropout,
    )


def _templates(settings: Settings) -> tuple[str, ...]:
    if not teaches_word(settings):
        return ()
    return load_templates(word_templates(settings), "embedding.template")


def _cache(settings: Settings, model: BorrowedModel, lease: Lease, folder: Path) -> LatentCache:
    vae = digest({name: tensor for name, tensor in lease.tensors.items() if name.startswith(layout.VAE)})
    precise = str(model.vae.quant_conv.weight.dtype)
    vae_key = hashlib.sha256(repr((sorted(vae.items()), precise)).encode()).hexdigest()
    return LatentCache(folder if settings.data.disk_cache else None, vae_key=vae_key)


def _batches(settings: Settings, plan: DataPlan, model: BorrowedModel, cache: LatentCache) -> Batches:
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
    ledger = Ledger(named, steps, not compute.scales, report, keeps=settings.method != "dreambooth")
    turns.before_close(ledger.fetch)
    return Trainer(
        method=method,
        batches=batches.batch,
        optimizer=_optimizer(settings, {group: list(values.values()) for group, values in groups.items()}),
        precision=compute,
        ema=Ema(named, training.ema_decay),
        ledger=ledger,
        turns=turns,
        plan=Plan(steps, training.accumulation, chosen.clip_norm, training.seed, lambda step: step_rates(settings, step)),
    )


def _optimizer(settings: Settings, groups: dict[str, list[torch.nn.Parameter]]) -> Optimizer | PerParameter:
    chosen = settings.optimizer
    build = OPTIMIZERS[chosen.name].build
    whole = settings.method == "dreambooth"
    if whole and (settings.tuning.in_backward == "on" or settings.tuning.weights == "bf16"):
        in_backward = settings.tuning.in_backward == "on"
        return PerParameter(groups, lambda own: build(own, chosen.weight_decay), in_backward=in_backward, clip_norm=chosen.clip_norm)
    return build(groups, chosen.weight_decay)


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
    found = {}
    for group, peak in group_rates(settings).items():
        first, last = _window(settings, group)
        # An optimizer that finds its own rate takes the same factor everywhere.
        at, total = (step, steps) if OPTIMIZERS[chosen.name].rate_factor is None else (step - first, last - first)
        learns = first <= step < last
        found[group] = peak * rates.factor(chosen.schedule, at, total, chosen.warmup, chosen.restarts, chosen.power) if learns else 0.0
    if settings.method == "dreambooth" and step >= settings.tuning.text_encoder_until * steps:
        found["text encoder"] = 0.0
    return found


def _window(settings: Settings, group: str) -> tuple[int, int]:
    """The steps in which a group learns, the last excluded; each such part has the whole schedule to itself."""
    steps = settings.training.steps or 0
    if settings.method != "pivotal_tuning":
        return 0, steps
    return (0, round(settings.embedding.until * steps)) if group == "embedding" else (round(settings.network.begin * steps), steps)


def class_report(folder: Path, count: int) -> Report:
    """The first ``count`` of the class pictures that were made."""
    found = scan(folder, field="data.class_count")
    return dataclasses.replace(found, pictures=found.pictures[:count])


def lora_names(model: BorrowedModel) -> dict[str, str]:
    """LDM name of each linear layer's and convolution's weight in UNet and text encoder → the module's name in a LoRA file."""
    found = {}
    for view, source in model.sources().items():
        part, _, name = view.partition(".")
        module, _, leaf = name.rpartition(".")
        if part in ("unet", "text") and leaf == "weight":
            kind = getattr(model, part).get_submodule(module)
            if isinstance(kind, torch.nn.Linear | torch.nn.Conv2d):
                found[source] = kohya_module(part, module)
    return found


def _recipe(settings: Settings, found: Dataset, plan: DataPlan, network_module: str, info: CheckpointInfo) -> Recipe:
    data, network, training = settings.data, settings.network, settings.training
    pictures = found.pictures
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
        inherited=_inherited(info.path),
    )


def _inherited(base: Path | None) -> dict[str, str]:
    known = checkpoint_file.metadata(base) if base and base.is_file() else {}
    return {name: known[name] for name in ("text_encoder_heads",) if name in known}


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
    """The settings as JSON for a file that others may get: folders and files are named without their path."""
    files = ("embedding.init",) if _is_file(settings.embedding.init) else ()
    for path in ("data.images", "data.class_images", "network.start", *files):
        given = value_at(settings, path)
        settings = replaced(settings, path, Path(given).name if given else "")
    return json.dumps(to_dict(settings), ensure_ascii=False)


def changed_meaning(stored: str, settings: Settings) -> list[str]:
    """Dotted paths of settings that differ and on which the meaning of a saved state hangs.

    Args:
        stored: `public_settings` of the run that wrote the state.
        settings: resolved, of the run that is to go on from it.
    """
    now, then = _flat(json.loads(public_settings(settings))), _flat(json.loads(stored))
    free = _free(settings)
    return sorted(path for path in now.keys() | then.keys() if now.get(path) != then.get(path) and not path.startswith(free))


def _free(settings: Settings) -> tuple[str, ...]:
    """What may be another when a run goes on from a saved state."""
    found = ["name", "training.steps", "saving.", "preview."]
    if teaches_word(settings):
        found.append("data.trigger")  # it follows the name
    if not (teaches_word(settings) and settings.embedding.keep_norm):
        found.append("network.start")  # the state holds what came of it; but a length that is kept is that of the beginning
    return tuple(found)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return found
