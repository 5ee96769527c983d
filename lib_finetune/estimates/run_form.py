"""The form of a run: what the free memory decides of its settings, and whether the disk has room for it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from lib_finetune.assembly import automatic_settings
from lib_finetune.assembly.artifact_kinds import targets
from lib_finetune.config.fields import replaced, value_at
from lib_finetune.errors import CheckpointChangedError, InputError, Problem
from lib_finetune.estimates import memory_plan, method_costs
from lib_finetune.files import nearest

if TYPE_CHECKING:
    from lib_finetune.config.settings import Settings
    from lib_finetune.data.plan import Epoch
    from lib_finetune.ports.checkpoint import CheckpointInfo
    from lib_finetune.ports.host import HostWeights

_PLACE = "tuning.host_weights"
_PREVIEW = "a preview's checkpoint"
_MOST_CLASS_PX = 512
_BYTES_A_PIXEL = 2
"""Of a painted image as PNG, rounded up."""
_Need = tuple[Path, int, str]


def in_chosen_form(settings: Settings, stored: Settings | None, info: CheckpointInfo, host: HostWeights) -> tuple[Settings, list[str]]:
    """The settings with what the free memory decides (gradient checkpointing, how DreamBooth holds its weights), and notes on it.

    A resumed run keeps its form, whatever is free now; only the place of the host's model is chosen anew.

    Args:
        stored: of the run that is resumed; None for a new one.

    Raises:
        InputError: memory does not suffice for DreamBooth, with the figures.
    """
    if stored is not None:
        settings = in_form_of(stored, settings, but=(_PLACE,))
    if settings.method != "dreambooth":
        return (settings, []) if stored is not None else _with_checkpointing(settings, host)
    with host.lease(info, ()) as lease:
        weights, memory = memory_plan.weights_of(lease), host.memory()
    if stored is not None:
        return memory_plan.placed(settings, weights, host.device, memory.free, memory.ram), []
    settings, note = memory_plan.choose_memory_plan(settings, weights, host.device, memory.free, memory.ram)
    return settings, [note]


def _with_checkpointing(settings: Settings, host: HostWeights) -> tuple[Settings, list[str]]:
    free = host.memory().free
    if settings.training.gradient_checkpointing or memory_plan.has_plenty(settings, host.device, free):
        return settings, []
    facts = method_costs.model_facts(host)
    return memory_plan.choose_checkpointing(settings, facts.weights, method_costs.patches_of(settings, facts), host.device, free)


def with_checkpointing(settings: Settings) -> Settings:
    """The settings with gradient checkpointing on."""
    return replaced(settings, "training.gradient_checkpointing", True)


def in_form_of(stored: Settings, settings: Settings, but: tuple[str, ...] = ()) -> Settings:
    """The settings with what an earlier run chose by the memory that was free, where they leave it open.

    Args:
        but: dotted paths that stay as they are.
    """
    for path in memory_plan.LEVERS:
        if value_at(settings, path) in ("auto", False) and path not in but:
            settings = replaced(settings, path, value_at(stored, path))
    return settings


def check_disk(settings: Settings, epoch: Epoch, info: CheckpointInfo, host: HostWeights, run_folder: Path) -> None:
    """See that the files of a run find room: the result, saved states, a preview's checkpoint and class images, together where they
    go to one disk. What a run that goes on has written before counts as there.

    Args:
        settings: in their form.
        epoch: what an epoch of the images shows.

    Raises:
        InputError: they do not, with the figures.
    """
    try:
        facts = method_costs.facts_of(info, host)
    except CheckpointChangedError:  # the run waits for its checkpoint first
        return
    definite = automatic_settings.resolved(settings, epoch, 1)[0]
    disks: dict[int, list[tuple[Path, int, str]]] = {}
    for place, need, name in _needs(definite, epoch, facts, host, run_folder):
        if need > 0:
            place = nearest(place)
            disks.setdefault(place.stat().st_dev, []).append((place, need, name))
    for parts in disks.values():
        place, free, need = parts[0][0], shutil.disk_usage(parts[0][0]).free, sum(size for _, size, _ in parts)
        if free < need:
            raise InputError([Problem("name", _too_little(definite, epoch, place, free, parts))])


def _needs(settings: Settings, epoch: Epoch, facts: method_costs.ModelFacts, host: HostWeights, run_folder: Path) -> list[_Need]:
    """(folder, bytes, what they are) of all that a run writes in quantity."""
    result_folder = next(iter(targets(settings, host.paths, "x").values())).parent
    files, states, preview = method_costs.disk_wants(settings, method_costs.file_bytes(settings, facts), facts.counts, epoch)
    whole = settings.method == "dreambooth"
    if not whole:
        states = memory_plan.states_at_once(settings, epoch) * method_costs.patch_state_bytes(settings, facts)
    states -= sum(path.stat().st_size for path in run_folder.glob("*.safetensors"))
    side_px = min(_MOST_CLASS_PX, settings.data.resolution)
    pictures = settings.data.class_count * side_px**2 * _BYTES_A_PIXEL if automatic_settings.prior_of(settings) == "pictures" else 0
    return [
        (result_folder, files, "the checkpoint" if whole else "the files of the result"),
        (run_folder, states, "the saved states"),
        (run_folder, preview, _PREVIEW),
        (host.paths.data / "classes", 0 if settings.data.class_images else pictures, "the class images"),
    ]


def _too_little(settings: Settings, epoch: Epoch, place: Path, free: int, parts: list[_Need]) -> str:
    digits = 1 if settings.method == "dreambooth" else 3
    need = sum(size for _, size, _ in parts)
    listed = ", ".join(f"{name} {size / 1e9:.{digits}f} GB" for _, size, name in parts)
    message = (
        f"Too little disk: {need / 1e9:.{digits}f} GB are needed on the disk of {place} ({listed}), {free / 1e9:.{digits}f} are free. "
    )
    message += "Free some space" + ", or set tuning.weights to bf16" * (settings.method == "dreambooth")
    message += ", or preview.every to 0" * any(name == _PREVIEW for _, _, name in parts)
    message += ", or saving.states to last" * (memory_plan.states_at_once(settings, epoch) > memory_plan.FEWEST_STATES)
    return message + "."
