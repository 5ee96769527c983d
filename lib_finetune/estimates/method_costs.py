"""Estimates: what each method would take and give for these images on this machine, before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lib_finetune.assembly import automatic_settings, builder
from lib_finetune.assembly.method_traits import bundles_word, patches, teaches_word
from lib_finetune.config.codec import all_leaves
from lib_finetune.config.fields import replaced, value_at
from lib_finetune.config.settings import METHODS, Settings
from lib_finetune.config.validation import validate
from lib_finetune.data.plan import Epoch
from lib_finetune.errors import CheckpointError, InputError
from lib_finetune.estimates import disk_needs, memory_model, memory_plan, speed_history
from lib_finetune.estimates.method_prospects import PROSPECTS, Prospect
from lib_finetune.export import bundled_word, checkpoint_writer, embedding_file
from lib_finetune.model import layout, tensor_file
from lib_finetune.model.checkpoint_reader import ldm_name
from lib_finetune.preflight import conflicts
from lib_finetune.training.adapters import AdapterOptions
from lib_finetune.training.adapters.sizes import Shape, file_shapes

if TYPE_CHECKING:
    from lib_finetune.model.borrowed import BorrowedModel
    from lib_finetune.model.tensor_file import Entry
    from lib_finetune.ports.checkpoint import CheckpointInfo
    from lib_finetune.ports.files import Paths
    from lib_finetune.ports.host import HostWeights
    from lib_finetune.ports.lease import Lease

_FILE_BYTES = {"fp16": 2, "bf16": 2, "fp32": 4}
_FILE_WORD = 4  # vectors are stored as float32
_STEP_PX = 64
_LEAST_PX = 256
_CLASS_PICTURES = 200
_OPEN = ("tuning.host_weights", "tuning.weights", "tuning.in_backward", "optimizer.name")
Change = tuple[str, Any]


@dataclass(frozen=True)
class ModelFacts:
    """The loaded checkpoint, as far as sizes depend on it.

    Attributes:
        view: without weights.
        weights: its parts.
        held: bytes of the model in memory.
        stored: bytes of "unet", "text" and "rest" in a checkpoint file made of it, as they are in the base.
    """

    view: BorrowedModel
    weights: memory_plan.Weights
    held: int
    stored: Mapping[str, int]

    @property
    def counts(self) -> Mapping[str, int]:
        """Weights of "unet" and "text"."""
        return self.weights.counts


@dataclass(frozen=True)
class Machine:
    """Where it would be trained.

    Attributes:
        device: of the host.
        name: of the device.
        total, free: bytes of its memory; ``free`` beside the host's model, 0 where the system does not tell.
        ram: bytes of main memory that are free, 0 likewise.
        paths: of the host.
    """

    device: torch.device
    name: str
    total: int
    free: int
    ram: int
    paths: Paths


@dataclass(frozen=True)
class Fit:
    """Whether it fits in memory.

    Attributes:
        fits: or the system does not tell.
        need: bytes beside the host's model.
        settings: with what a run would choose by itself.
        note: what it would choose, or "".
        wrong: why it cannot be, whatever the memory, or "".
    """

    fits: bool
    need: int
    settings: Settings
    note: str = ""
    wrong: str = ""


@dataclass(frozen=True)
class MethodCard:
    """A method, for these images on this machine.

    Attributes:
        method: which.
        likeness: what is to be expected, in a line.
        why: the same in several.
        file_bytes: of the result, without its metadata (some KB).
        steps: of the run.
        seconds: of all steps; None where nothing is known of this machine.
        seconds_from: "measured", "scaled" (from other work), "guessed" (by the card's memory), or "".
        memory_bytes: on the device in all, the host's model included.
        free_bytes: beside the host's model; 0 where the system does not tell.
        disk_bytes, disk_free: what the run writes to the disk that it fills most, and what is free there.
        fits: in memory and on the disk.
        levers: settings and values that make it fit, or empty.
        message: "" or what is chosen by itself, or why it does not fit and what to set.
    """

    method: str
    likeness: str
    why: Prospect
    file_bytes: int
    steps: int
    seconds: float | None
    seconds_from: str
    memory_bytes: int
    free_bytes: int
    disk_bytes: int
    disk_free: int
    fits: bool
    levers: tuple[Change, ...]
    message: str


def model_facts(host: HostWeights) -> ModelFacts:
    """Read the facts off the host; takes its turn for a moment. They hold as long as its checkpoint's `identity` does.

    Raises:
        HostError, CheckpointError: as `HostWeights.lease`; another family of models.
    """
    return facts_of(host.checkpoint(), host)


def facts_of(info: CheckpointInfo, host: HostWeights) -> ModelFacts:
    """As `model_facts`, of the checkpoint of a run.

    Raises:
        HostError, CheckpointError: as `model_facts`; another checkpoint is loaded.
    """
    tools = host.text_tools()
    with host.lease(info, ()) as lease:
        view, weights = builder.borrowed(lease, tools), memory_plan.weights_of(lease)
        held = sum(tensor.numel() * tensor.element_size() for tensor in lease.tensors.values())
        parts = stored(info.path, lease)
    return ModelFacts(view, weights, held, parts)


def stored(base: Path | None, lease: Lease) -> dict[str, int]:
    """Bytes of "unet", "text" and "rest" in a checkpoint file made of the base: by its file, or by the leased weights where none can be read."""
    if base and base.is_file():
        with suppress(CheckpointError), checkpoint_writer.opened(base) as entries:
            return _by_part(entries)
    return _by_part({name: tensor_file.entry(tensor) for name, tensor in lease.tensors.items()})


def _by_part(entries: Mapping[str, Entry]) -> dict[str, int]:
    sizes = {"unet": 0, "text": 0, "rest": 0}
    for name, entry in entries.items():
        known = ldm_name(name)
        sizes["unet" if known.startswith(layout.UNET) else "text" if known.startswith(layout.TEXT) else "rest"] += entry.size
    return sizes


def machine_of(host: HostWeights) -> Machine:
    """The host's machine, now."""
    memory = host.memory()
    return Machine(host.device, speed_history.device_name(host.device), memory.total, memory.free, memory.ram, host.paths)


def cards(settings: Settings, views: Epoch | int, facts: ModelFacts, machine: Machine) -> tuple[MethodCard, ...]:
    """A card for each method; the settings apart from the method are as they are.

    Args:
        views: what an epoch shows (`dataset_report.epoch_of`); a number stands for so many images of one size.

    Raises:
        InputError: settings that cannot be; name and images need not be there yet.
    """
    validate(settings, but=("name", "data.images"))
    return tuple(card(replaced(settings, "method", method), views, facts, machine) for method in METHODS)


def card(settings: Settings, views: Epoch | int, facts: ModelFacts, machine: Machine) -> MethodCard:
    """The card of the settings' method."""
    fitting = fit(settings, facts, machine)
    epoch = views if isinstance(views, Epoch) else Epoch.of(max(1, views), settings.training.batch)
    chosen = automatic_settings.resolved(fitting.settings, epoch, clip_skip=1)[0]
    speed, steps = speed_of(chosen, facts, machine), chosen.training.steps or 0
    needed, free = disk(chosen, facts, machine.paths, epoch)
    changes = () if fitting.fits else levers(settings, facts, machine)
    context = memory_model.CONTEXT if machine.device.type == "cuda" else 0
    return MethodCard(
        method=settings.method,
        likeness=PROSPECTS[settings.method].line,
        why=PROSPECTS[settings.method],
        file_bytes=file_bytes(chosen, facts),
        steps=steps,
        seconds=steps * settings.training.accumulation * speed.seconds if speed else None,
        seconds_from=speed.origin if speed else "",
        memory_bytes=facts.held + context + fitting.need,
        free_bytes=machine.free,
        disk_bytes=needed,
        disk_free=free,
        fits=fitting.fits and needed <= free,
        levers=changes,
        message=_message(fitting, changes, machine, needed, free),
    )


def speed_of(settings: Settings, facts: ModelFacts, machine: Machine) -> speed_history.Speed | None:
    """How long a batch of settings in their form will take."""
    work = speed_history.work_of(settings, machine.name, facts.counts["unet"])
    return speed_history.estimate(machine.paths.data, work, machine.total if machine.device.type == "cuda" else 0)


def _message(fitting: Fit, changes: tuple[Change, ...], machine: Machine, needed: int, free: int) -> str:
    if not fitting.fits:
        return fitting.wrong or unfit(fitting.need, machine.free, changes)
    if needed > free:
        return f"Does not fit on the disk: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} are free. Free some space."
    return fitting.note


def unfit(need: int, free: int, changes: tuple[Change, ...]) -> str:
    """Why it does not fit in memory, and what to set."""
    message = f"Does not fit: {need / memory_model.GIB:.1f} GiB are needed beside the model, {free / memory_model.GIB:.1f} are free."
    if not changes:
        return message + " No setting makes it fit: close other programs, or choose another method."
    return message + " Set " + " and ".join(f"{path} to {_shown(value)}" for path, value in changes) + "."


def _shown(value: Any) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


# -- memory ------------------------------------------------------------------------------------------------------------


def fit(settings: Settings, facts: ModelFacts, machine: Machine) -> Fit:
    """Whether a run would fit in memory, in the form that it would choose."""
    if settings.method == "dreambooth":
        return _whole_fit(settings, facts, machine)
    chosen, notes = memory_plan.choose_checkpointing(settings, facts.weights, patches_of(settings, facts), machine.device, machine.free)
    need = memory_plan.need_of_patches(chosen, facts.weights, patches_of(chosen, facts), machine.device)
    return Fit(not machine.free or need <= machine.free, need, chosen, " ".join(notes))


def _whole_fit(settings: Settings, facts: ModelFacts, machine: Machine) -> Fit:
    wrong = " ".join(problem.message for problem in conflicts.precision_problems(settings, machine.device))
    try:
        chosen, note = memory_plan.choose_memory_plan(settings, facts.weights, machine.device, machine.free, machine.ram)
    except InputError:
        chosen, note = None, ""
    if chosen is None or wrong:
        least = memory_plan.least(settings, machine.device, facts.counts)
        return Fit(False, memory_plan.beside_host(least, facts.weights, machine.device), least, wrong=wrong)
    return Fit(True, memory_plan.beside_host(chosen, facts.weights, machine.device), chosen, note)


def patches_of(settings: Settings, facts: ModelFacts) -> memory_plan.Patches:
    """What patches and word take beside the model."""
    view, deltas = facts.view, 0
    if patches(settings) and settings.network.adapter != "lora":
        roots = {"unet": view.unet, "text": view.text}
        targets = builder.patch_targets(settings.network, view)
        deltas = sum(roots[target.part].get_submodule(target.module).weight.numel() for target in targets)
    return memory_plan.Patches(_trained_bytes(settings, facts), deltas)


def _trained_bytes(settings: Settings, facts: ModelFacts) -> int:
    named = automatic_settings.resolved(settings, 1, clip_skip=1)[0].optimizer.name
    return memory_model.beside(trained_weights(settings, facts), named, settings.training.ema_decay > 0)


def trained_weights(settings: Settings, facts: ModelFacts) -> int:
    """How many weights patches and word have."""
    count = sum(_numel(shape) for name, shape in _patch_shapes(settings, facts).items() if not name.endswith(".alpha"))
    return count + (_numel(_word_shape(settings, facts)) if teaches_word(settings) else 0)


def levers(settings: Settings, facts: ModelFacts, machine: Machine) -> tuple[Change, ...]:
    """The mildest changes of the settings with which they fit in memory, found by computing each; none where nothing helps."""

    def fits(changes: Mapping[str, Any]) -> bool:
        changed = settings
        for path, value in changes.items():
            changed = replaced(changed, path, value)
        return fit(changed, facts, machine).fits

    taken: dict[str, Any] = {}
    for path, value in _changes(settings):
        taken[path] = value
        if fits(taken):
            break
    else:
        return ()
    for path in list(taken)[:-1]:  # what the later ones have made needless
        without = {other: value for other, value in taken.items() if other != path}
        taken = without if fits(without) else taken
    return tuple(taken.items())


def _changes(settings: Settings) -> Iterator[Change]:
    """What may be changed, the mildest first."""
    whole = settings.method == "dreambooth"
    for path in _OPEN if whole else ():
        if value_at(settings, path) != all_leaves()[path].default:
            yield path, all_leaves()[path].default
    if not settings.training.gradient_checkpointing:
        yield "training.gradient_checkpointing", True
    if settings.training.batch > 1:
        yield "training.batch", 1
    if whole and settings.training.ema_decay:
        yield "training.ema_decay", 0.0
    if whole and automatic_settings.prior_of(settings) == "prediction" and settings.objective.prior == "auto":
        yield "data.class_count", _CLASS_PICTURES  # the base's own predictions need its weights on the card
    if whole and settings.tuning.text_encoder_until:
        yield "tuning.text_encoder_until", 0.0
    first = (settings.data.resolution - 1) // _STEP_PX * _STEP_PX
    for side in range(first, _LEAST_PX - 1, -_STEP_PX):
        yield "data.resolution", side


# -- files -------------------------------------------------------------------------------------------------------------


def file_bytes(settings: Settings, facts: ModelFacts) -> int:
    """Size of the result without its metadata; both files' where there are two."""
    if settings.method == "dreambooth":
        return checkpoint_bytes(settings, facts.counts, facts.stored)
    each = _FILE_BYTES[settings.saving.precision]
    tensors = {name: (shape, each) for name, shape in _patch_shapes(settings, facts).items()}
    word = (_word_shape(settings, facts), _FILE_WORD)
    if bundles_word(settings):
        return _safetensors_bytes({**tensors, bundled_word.key(settings.name): word})
    apart = _safetensors_bytes({embedding_file.KEY: word}) if teaches_word(settings) else 0
    return apart + (_safetensors_bytes(tensors) if tensors else 0)


def checkpoint_bytes(settings: Settings, counts: Mapping[str, int], stored: Mapping[str, int]) -> int:
    """What is trained in the precision of the file, all else as in the base."""
    parts = ("unet", "text") if settings.tuning.text_encoder_until else ("unet",)
    trained = sum(counts[part] for part in parts) * _FILE_BYTES[settings.saving.precision]
    return trained + sum(size for part, size in stored.items() if part not in parts)


def _safetensors_bytes(tensors: Mapping[str, tuple[Shape, int]]) -> int:
    """Header and contents of a file with these (shape, bytes a number)."""
    header, end = {}, 0
    for name, (shape, each) in tensors.items():
        begin, end = end, end + _numel(shape) * each
        header[name] = {"dtype": "F16" if each == _FILE_BYTES["fp16"] else "F32", "shape": list(shape), "data_offsets": [begin, end]}
    return 8 + -(-len(json.dumps(header, separators=(",", ":"))) // 8) * 8 + end


def _patch_shapes(settings: Settings, facts: ModelFacts) -> dict[str, Shape]:
    if not patches(settings):
        return {}
    network, view = settings.network, facts.view
    options = AdapterOptions(network.dropout, network.factor)
    return file_shapes(network.adapter, {"unet": view.unet, "text": view.text}, builder.patch_targets(network, view), options)


def _word_shape(settings: Settings, facts: ModelFacts) -> Shape:
    return settings.embedding.vectors, int(facts.view.unet.config.cross_attention_dim)


def _numel(shape: Shape) -> int:
    return int(torch.Size(shape).numel())


def disk(settings: Settings, facts: ModelFacts, paths: Paths, epoch: Epoch | int = 0, classes: int = 1) -> tuple[int, int]:
    """Bytes that a run will write to the disk that it fills most, and what is free there.

    Args:
        settings: resolved, in their form.
        epoch: what an epoch shows; 0: of images nothing is known.
        classes: of the subjects; each has class images of its own.
    """
    fullest = disk_needs.disks(disk_needs_of(settings, facts, paths, epoch, classes))[0]
    return fullest.need, fullest.free


def disk_needs_of(settings: Settings, facts: ModelFacts, paths: Paths, epoch: Epoch | int, classes: int = 1) -> list[disk_needs.Need]:
    """All that a run writes in quantity; arguments as of `disk`."""
    whole = settings.method == "dreambooth"
    state = memory_plan.state_bytes(settings, facts.counts) if whole else _patch_state_bytes(settings, facts)
    return disk_needs.needs(settings, epoch, file_bytes(settings, facts), state, paths, classes)


def _patch_state_bytes(settings: Settings, facts: ModelFacts) -> int:
    """Of a saved state of a method that trains beside the model; settings resolved."""
    copies = (settings.training.ema_decay > 0) + (settings.data.held_out > 0)
    return memory_model.kept_beside(trained_weights(settings, facts), settings.optimizer.name, copies)
