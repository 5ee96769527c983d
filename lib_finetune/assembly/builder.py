"""Settings to objects: models, methods, optimizers, data and the trainer that holds them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lib_finetune import randomness
from lib_finetune.assembly import initial_weights
from lib_finetune.assembly.automatic_settings import needed_parts, prior_of
from lib_finetune.assembly.caption_templates import caption_template, class_template
from lib_finetune.assembly.dataset import Dataset, templates
from lib_finetune.assembly.method_traits import patches, teaches_word
from lib_finetune.assembly.provenance import recipe
from lib_finetune.assembly.rate_plan import RatePlan
from lib_finetune.assembly.scale_groups import group_of_scale
from lib_finetune.assembly.subjects import Subject, class_caption_of, subjects_of
from lib_finetune.config.settings import Network, Settings
from lib_finetune.data.batches import Batch, Batches
from lib_finetune.data.cache import LatentCache
from lib_finetune.data.captioning import Captioning
from lib_finetune.data.cropping import Cropping
from lib_finetune.data.plan import Plan as DataPlan
from lib_finetune.data.scan import Picture
from lib_finetune.errors import CheckpointError, InputError, Problem, let_go
from lib_finetune.evaluation.validation import DRAWS, Validation
from lib_finetune.export import embedding_file
from lib_finetune.export.metadata import Recipe
from lib_finetune.files import at_home
from lib_finetune.model import families, layout
from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.digest import digest
from lib_finetune.model.names import kohya_module
from lib_finetune.model.sampling import encode
from lib_finetune.model.soundness import not_finite
from lib_finetune.randomness import step_seed
from lib_finetune.text.learned import LearnedVectors, count_tokens, first_values, ids_of
from lib_finetune.text.prompts import TextEncoder
from lib_finetune.training import precision
from lib_finetune.training.adapters import ADAPTERS, Adapter, AdapterOptions, Target
from lib_finetune.training.adapters.targets import text_targets, unet_targets
from lib_finetune.training.ema import Ema
from lib_finetune.training.loop import Trainer, TrainingPlan
from lib_finetune.training.loss_log import LossLog
from lib_finetune.training.method import Method
from lib_finetune.training.methods.denoising import Denoiser, DenoisingObjective, PriorPrediction
from lib_finetune.training.methods.dreambooth import DreamBoothMethod
from lib_finetune.training.methods.lora import LoraMethod
from lib_finetune.training.methods.pivotal_tuning import PivotalTuningMethod
from lib_finetune.training.methods.textual_inversion import TextualInversionMethod
from lib_finetune.training.model_swap import ModelSwap
from lib_finetune.training.optim import OPTIMIZERS
from lib_finetune.training.optim.flat import Flat
from lib_finetune.training.optim.per_parameter import PerParameter
from lib_finetune.training.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.optim import Optimizer

    from lib_finetune.errors import CheckpointChangedError
    from lib_finetune.ports.checkpoint import CheckpointInfo
    from lib_finetune.ports.events import StepReport
    from lib_finetune.ports.host import HostWeights
    from lib_finetune.ports.lease import Lease, TextTools
    from lib_finetune.training.optim.optimizer import Groups

Subjects = Sequence[Subject]
_TEXTS_KEPT = 512
_VALIDATION = 3
"""The stream of random numbers of validation; 1 and 2 are those of a step."""


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
    swap: ModelSwap | None = None
    """Where what is trained and the host's model change places."""
    validation: Validation | None = None
    held: Batches | None = None
    """The validation images; a micro step each."""

    @property
    def can_checkpoint(self) -> bool:
        """Whether gradient checkpointing could still be switched on, and nothing has moved in a step that failed."""
        torn = isinstance(self.trainer.optimizer, PerParameter) and self.trainer.optimizer.torn
        return not self.model.unet.is_gradient_checkpointing and not torn

    def checkpoint_gradients(self) -> None:
        """Switch gradient checkpointing on; every step after it gives what it would have given."""
        checkpoint_gradients(self.model)

    def close(self) -> None:
        """Release what was trained beside the host's model; its files are written."""
        self.trainer.close()
        self.model.disown()

    def best(self) -> AbstractContextManager[None]:
        """Inside, the parameters are those of the result."""
        return self.validation.applied() if self.validation and self.validation.best else self.trainer.ema.applied()


def borrowed(lease: Lease, tools: TextTools) -> BorrowedModel:
    """A view that fits the leased weights, not bound.

    Raises:
        CheckpointError: another family of models.
    """
    return BorrowedModel(layout.infer(lease.tensors, tools.heads, tools.activation))


def bind(
    settings: Settings,
    images: Dataset,
    host: HostWeights,
    info: CheckpointInfo,
    cache_folder: Path,
    on_changed: Callable[[CheckpointChangedError], None],
    report: Callable[[StepReport], None],
    rates: RatePlan | None = None,
    on_latent: Callable[[str], None] = lambda _: None,
) -> Assembly:
    """Borrow the model for as long as it takes to make the objects of a run from resolved settings.

    Args:
        on_changed: see `Turns`.
        on_latent: see `LatentCache`.
        rates: learning rates by step; those of a run in one stretch where none are handed over.

    Raises:
        InputError: a library is missing or a precision cannot be had.
        CheckpointError: the weights are no numbers.
        FinetuneError: as `HostWeights.lease`.
    """
    tools = host.text_tools()
    swapped = settings.method == "dreambooth" and settings.tuning.host_weights == "exchange"
    with host.lease(info, needed_parts(settings), alone=swapped) as lease:
        if wrong := not_finite(lease.tensors):
            message = f"{info} is damaged: {wrong} holds NaN or infinity. Load another checkpoint, or download this one again."
            raise CheckpointError([Problem("checkpoint", message)])
        model = borrowed(lease, tools)
        turns = Turns(host, info, model, on_changed)
        try:
            with model.bound(lease.tensors):
                assembly = assemble(
                    settings, images, model, lease, tools, info, cache_folder, turns, report, rates or RatePlan(settings), on_latent
                )
            assembly.trainer.processes = host.processes
            if swapped:
                assembly.swap = ModelSwap(assembly.trainer.held)
                assembly.swap.leave()
        except BaseException as error:
            let_go(error)  # the host's weights need the room
            model.disown()
            raise
    return assembly


def assemble(
    settings: Settings,
    images: Dataset,
    model: BorrowedModel,
    lease: Lease,
    tools: TextTools,
    info: CheckpointInfo,
    cache_folder: Path,
    turns: Turns,
    report: Callable[[StepReport], None],
    rates: RatePlan,
    on_latent: Callable[[str], None],
) -> Assembly:
    """Make the objects of a run from resolved settings; ``model`` is bound.

    Raises:
        InputError: a library is missing or a precision cannot be had.
    """
    denoiser = Denoiser(model.unet, lease.alphas_cumprod.clone(), lease.scale_factor, info.prediction, objective(settings))
    method, text, adapter = _METHODS[settings.method](settings, subjects_of(settings, images), model, tools, denoiser)
    compute = precision.choose(settings.training.precision, model.unet.conv_in.weight.dtype, lease.device)
    if compute.scales and _moves_apart(settings):  # a run may resume on another GPU than it began on
        raise InputError([precision.scaled_apart(settings.tuning.weights)])
    _prepare_modes(settings, model)
    _prepare_copies(settings, model, compute, text)
    plan = data_plan(settings, images, tools)
    cache = _cache(settings, model, lease, cache_folder, on_latent)
    batches = _batches(settings, plan, model, cache, turns)
    trainer = _trainer(settings, method, adapter, parameter_groups(method, adapter, rates), batches, compute, turns, report, rates)
    provenance = recipe(settings, images, plan, adapter, info, rates)
    assembly = Assembly(model, trainer, plan, batches, text, provenance, needed_parts(settings))
    if images.held:
        held = _batches(settings, plan_of_held(plan, images.held), model, cache, turns)
        assembly = dataclasses.replace(assembly, held=held, validation=_validation(settings, trainer, held, len(images.held)))
    return assembly


def plan_of_held(plan: DataPlan, held: Sequence[Picture]) -> DataPlan:
    """Each image once an epoch, in the same way every time."""
    once = [dataclasses.replace(picture, repeats=1) for picture in held]
    cropping, captioning = plan.cropping.steady(), plan.captioning.steady()
    return dataclasses.replace(plan, pictures=once, class_pictures=(), batch=1, cropping=cropping, captioning=captioning)


def _validation(settings: Settings, trainer: Trainer, held: Batches, count: int) -> Validation:
    method, seed = trainer.method, settings.training.seed
    batches: dict[int, Batch] = {}

    def prepare(picture: int) -> None:
        batches.clear()
        batches[picture] = held.batch(picture)

    def loss(picture: int, draw: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(step_seed(seed, picture * DRAWS + draw, _VALIDATION))
        method.train(False)
        try:
            return trainer.loss(batches[picture], generator)
        finally:
            method.train(True)

    named = {name: parameter for group in method.parameters().values() for name, parameter in group.items()}
    return Validation(count, loss, named, settings.training.validate_every, prepare)


_Made = tuple[Method, TextEncoder, "Adapter | None"]


def _lora(settings: Settings, subjects: Subjects, model: BorrowedModel, tools: TextTools, denoiser: Denoiser) -> _Made:
    adapter = adapter_of(settings, model)
    adapter.train(True)
    text = _text_encoder(settings, model, tools, texts_kept=0 if adapter.parameters("text") else _TEXTS_KEPT)
    return LoraMethod(adapter, text, denoiser, _prior(settings, subjects, adapter.off)), text, adapter


def _dreambooth(settings: Settings, subjects: Subjects, model: BorrowedModel, tools: TextTools, denoiser: Denoiser) -> _Made:
    parts = ("unet", "text") if settings.tuning.text_encoder_until else ("unet",)
    weights = model.own(parts, precision.DTYPES[settings.tuning.weights], denoiser.device)
    text = _text_encoder(settings, model, tools, texts_kept=0 if "text" in parts else _TEXTS_KEPT)
    return DreamBoothMethod(weights, text, denoiser, _prior(settings, subjects, model.as_lent)), text, None


def _prior(settings: Settings, subjects: Subjects, base: Callable[[], AbstractContextManager[None]]) -> PriorPrediction | None:
    if prior_of(settings) != "prediction":
        return None
    return PriorPrediction(lambda caption: class_caption_of(settings, subjects, caption), settings.objective.prior_weight, base)


def _textual_inversion(settings: Settings, _subjects: Subjects, model: BorrowedModel, tools: TextTools, denoiser: Denoiser) -> _Made:
    vectors, learned = _word(settings, model, tools)
    text = _text_encoder(settings, model, tools, learned=learned)
    return TextualInversionMethod(vectors, settings.embedding.keep_norm, text, denoiser), text, None


def _pivotal_tuning(settings: Settings, subjects: Subjects, model: BorrowedModel, tools: TextTools, denoiser: Denoiser) -> _Made:
    vectors, learned = _word(settings, model, tools)
    adapter = adapter_of(settings, model)
    adapter.train(True)
    text = _text_encoder(settings, model, tools, learned=learned)
    word = TextualInversionMethod(vectors, settings.embedding.keep_norm, text, denoiser)
    method = PivotalTuningMethod(LoraMethod(adapter, text, denoiser, _prior(settings, subjects, adapter.off)), word)
    return method, text, adapter


def _word(settings: Settings, model: BorrowedModel, tools: TextTools) -> tuple[torch.nn.Parameter, LearnedVectors]:
    vectors = torch.nn.Parameter(_first_vectors(settings, model, tools))
    return vectors, LearnedVectors(model.text, tools.tokenizer, {settings.name: vectors})


_METHODS = {"lora": _lora, "dreambooth": _dreambooth, "textual_inversion": _textual_inversion, "pivotal_tuning": _pivotal_tuning}


def _first_vectors(settings: Settings, model: BorrowedModel, tools: TextTools) -> torch.Tensor:
    own, table = settings.embedding, model.text.embeddings.token_embedding.weight
    if (begins := initial_weights.vectors(settings)) is not None:
        return _of_width(begins, table, settings.network.start, "network.start")
    if not embedding_file.names_file(own.init):
        ids = ids_of(tools.tokenizer, own.init or settings.data.class_word)
        return first_values(table, ids, own.vectors, settings.training.seed)
    return _of_width(embedding_file.read(at_home(own.init), "embedding.init"), table, own.init, "embedding.init")


def _of_width(stored: torch.Tensor, table: torch.Tensor, name: str, field: str) -> torch.Tensor:
    if stored.shape[1] != table.shape[1]:
        message = (
            f"{name} is {stored.shape[1]} wide{families.of_width(stored.shape[1])}, the loaded model's text encoder {table.shape[1]}: "
            "it belongs to another family of models."
        )
        raise InputError([Problem(field, message)])
    return stored.to(table.device)


def _text_encoder(settings: Settings, model: BorrowedModel, tools: TextTools, **how: Any) -> TextEncoder:
    return TextEncoder(model.text, tools.tokenizer, settings.training.clip_skip or 1, settings.data.max_tokens, **how)


def adapter_of(settings: Settings, model: BorrowedModel) -> Adapter:
    """The adapter, attached to a view that is bound.

    Raises:
        InputError: the file that it begins with does not fit.
    """
    adapter = _attached(settings, model)
    initial_weights.put(settings, adapter)
    return adapter


def _attached(settings: Settings, model: BorrowedModel) -> Adapter:
    network = settings.network
    options = AdapterOptions(network.dropout, network.factor)
    with randomness.preserved():  # adapters draw their first values from torch's global states
        torch.manual_seed(settings.training.seed)
        return ADAPTERS[network.adapter]({"unet": model.unet, "text": model.text}, patch_targets(network, model), options)


def patch_scales(settings: Settings, host: HostWeights, info: CheckpointInfo) -> dict[str, tuple[float, ...]] | None:
    """Part of the model → how much its patches count, the most first, as the layers themselves tell; None where all count alpha / rank.

    Raises:
        FinetuneError: as `Host.lease`; a library is missing.
    """
    network = settings.network
    if not patches(settings) or not (network.adapter == "lokr" or network.conv_rank):
        return None
    with host.lease(info, ()) as lease:
        view = borrowed(lease, host.text_tools())  # of shapes alone: it is not bound, and goes with the layers that it gets
    adapter = _attached(settings, view)
    scales = {part: tuple(sorted(set(adapter.scales(part).values()), reverse=True)) for part in ("unet", "text")}
    return {part: counts for part, counts in scales.items() if counts}


def patch_targets(network: Network, model: BorrowedModel) -> list[Target]:
    """The modules that get a patch."""
    targets = unet_targets(model.unet, network.targets, network.rank, network.alpha, network.conv_rank, network.conv_alpha)
    return targets + (text_targets(model.text, network.rank, network.alpha) if network.text_encoder else [])


def _prepare_modes(settings: Settings, model: BorrowedModel) -> None:
    if settings.training.gradient_checkpointing:
        checkpoint_gradients(model)


def _prepare_copies(settings: Settings, model: BorrowedModel, compute: precision.Precision, text: TextEncoder) -> None:
    """Copies of frozen weights once a turn in place of casts in every step, where a step would hold all of them at its peak anyway.

    With gradient checkpointing it would not, and the memory is short.
    """
    if compute.casts and settings.method != "dreambooth" and not settings.training.gradient_checkpointing:
        model.compute_in(compute.compute, ("unet",) if text.keeps else ("unet", "text"))


def checkpoint_gradients(model: BorrowedModel) -> None:
    """Have the UNet compute again in the backward pass what it would have to keep for it."""
    model.compute_in(torch.float32, ())
    model.unet.enable_gradient_checkpointing()
    model.unet.train()  # diffusers checkpoints in training mode only; SD1.5's UNet has no dropout of its own


def objective(settings: Settings) -> DenoisingObjective:
    """The objective's fields, by name."""
    return DenoisingObjective(**{field.name: getattr(settings.objective, field.name) for field in dataclasses.fields(DenoisingObjective)})


def data_plan(settings: Settings, images: Dataset, tools: TextTools | None = None) -> DataPlan:
    """Order, crops and captions of a run.

    Args:
        tools: the host's; without them no caption is held against its limit.
    """
    data = settings.data
    word = settings.name.strip() if teaches_word(settings) else ""

    def is_read(beginning: str) -> bool:
        return tools is None or count_tokens(tools.tokenizer, beginning, word, settings.embedding.vectors) <= data.max_tokens

    return DataPlan(
        images.pictures,
        images.classes.pictures if images.classes and prior_of(settings) == "pictures" else (),
        resolution=data.resolution,
        buckets=data.buckets,
        batch=settings.training.batch,
        seed=settings.training.seed,
        cropping=Cropping(data.crop, data.flip),
        captioning=captioning_of(settings, images, is_read if tools else None),
    )


def captioning_of(settings: Settings, images: Dataset, is_read: Callable[[str], bool] | None = None) -> Captioning:
    """The captions of a run.

    Args:
        is_read: see `Captioning`.

    Raises:
        InputError: its templates cannot be read.
    """
    data = settings.data
    return Captioning(
        data.trigger,
        data.class_word,
        caption_template(settings),
        own_labels=images.own_labels,
        class_template=class_template(settings),
        templates=templates(settings),
        templates_win=bool(settings.embedding.template),
        shuffle_tags=data.shuffle_tags,
        keep_tags=data.keep_tags,
        tag_dropout=data.tag_dropout,
        caption_dropout=data.caption_dropout,
        is_read=is_read,
    )


def _cache(settings: Settings, model: BorrowedModel, lease: Lease, folder: Path, on_latent: Callable[[str], None]) -> LatentCache:
    vae = digest({name: tensor for name, tensor in lease.tensors.items() if name.startswith(layout.VAE)})
    computed = (str(model.vae.quant_conv.weight.dtype), lease.device.type)  # cards and processors round differently
    vae_key = hashlib.sha256(repr((sorted(vae.items()), *computed)).encode()).hexdigest()
    return LatentCache(
        folder if settings.data.disk_cache else None, vae_key=vae_key, on_used=on_latent if settings.data.disk_cache else lambda _: None
    )


def _batches(settings: Settings, plan: DataPlan, model: BorrowedModel, cache: LatentCache, turns: Turns) -> Batches:
    def encoded(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with turns.apart("vae"):  # between turns of training the autoencoder may lie in main memory
            return encode(model, pixels)

    return Batches(plan, cache, encoded, settings.objective.prior_weight, settings.objective.unmasked_weight)


def _trainer(
    settings: Settings,
    method: Method,
    adapter: Adapter | None,
    groups: dict[str, list[torch.nn.Parameter]],
    batches: Batches,
    compute: precision.Precision,
    turns: Turns,
    report: Callable[[StepReport], None],
    rates: RatePlan,
) -> Trainer:
    chosen, training = settings.optimizer, settings.training
    steps = training.steps or 0
    named = {name: parameter for group in method.parameters().values() for name, parameter in group.items()}
    optimizer = _optimizer(settings, groups, adapter, compute.compute)
    flat = optimizer if isinstance(optimizer, Flat) else None
    ema, keeps = Ema(named, training.ema_decay, flat), settings.method != "dreambooth"
    held = flat.wholes if flat else named
    loss_log = LossLog(held, steps, not compute.scales, report, keeps=keeps, average=ema.tensors.values())
    turns.before_close(loss_log.fetch)
    return Trainer(
        method=method,
        batches=batches.batch,
        optimizer=optimizer,
        precision=compute,
        ema=ema,
        loss_log=loss_log,
        turns=turns,
        plan=TrainingPlan(
            steps,
            training.accumulation,
            chosen.clip_norm,
            training.seed,
            rates.at,
            _draws(settings),
            batches.weight,
        ),
    )


def parameter_groups(method: Method, adapter: Adapter | None, rates: RatePlan) -> dict[str, list[torch.nn.Parameter]]:
    """The optimizer's groups: those of the method, parted where patches that count otherwise have a rate of their own."""
    scales = {name: scale for part in ("unet", "text") for name, scale in (adapter.scales(part) if adapter else {}).items()}
    groups: dict[str, list[torch.nn.Parameter]] = {}
    for group, parameters in method.parameters().items():
        groups[group] = []
        for name, parameter in parameters.items():
            own = group_of_scale(group, scales[name]) if name in scales else group
            groups.setdefault(own if own in rates.apart else group, []).append(parameter)
    return groups


def _moves_apart(settings: Settings) -> bool:
    """Whether each weight has an optimizer of its own."""
    return settings.method == "dreambooth" and (settings.tuning.in_backward == "on" or settings.tuning.weights == "bf16")


def _draws(settings: Settings) -> bool:
    """Whether a step draws from torch's global random states: dropout does, and weights that are rounded at random."""
    if settings.method == "dreambooth":
        return settings.tuning.weights == "bf16"
    return settings.method != "textual_inversion" and settings.network.dropout > 0


def _optimizer(
    settings: Settings, groups: dict[str, list[torch.nn.Parameter]], adapter: Adapter | None = None, compute: torch.dtype = torch.float32
) -> Optimizer | PerParameter | Flat:
    chosen = settings.optimizer
    kind = OPTIMIZERS[chosen.name]

    def build(own: Groups) -> Optimizer:
        return kind.build(own, chosen.weight_decay)

    if _moves_apart(settings):
        return PerParameter(groups, build, in_backward=settings.tuning.in_backward == "on", clip_norm=chosen.clip_norm)
    if adapter is None or not kind.elementwise:
        return build(groups)
    flat = Flat(groups, adapter.packs(), compute, build)
    adapter.sit(flat.leaf)
    return flat


def lora_names(model: BorrowedModel) -> dict[str, str]:
    """LDM name of each linear layer's and convolution's weight in UNet and text encoder → the module's name in a LoRA file."""
    by_source = {}
    for view, source in model.sources().items():
        part, _, name = view.partition(".")
        module, _, leaf = name.rpartition(".")
        if part in ("unet", "text") and leaf == "weight":
            kind = getattr(model, part).get_submodule(module)
            if isinstance(kind, torch.nn.Linear | torch.nn.Conv2d):
                by_source[source] = kohya_module(part, module)
    return by_source
