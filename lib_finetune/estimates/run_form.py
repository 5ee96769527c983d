"""The form of a run: what the free memory decides of its settings, and whether the disk has room for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lib_finetune.assembly import automatic_settings
from lib_finetune.config.fields import replaced, value_at
from lib_finetune.errors import CheckpointChangedError, InputError, Problem
from lib_finetune.estimates import disk_needs, memory_plan, method_costs

if TYPE_CHECKING:
    from lib_finetune.config.settings import Settings
    from lib_finetune.data.plan import Epoch
    from lib_finetune.ports.checkpoint import CheckpointInfo
    from lib_finetune.ports.host import HostWeights

_PLACE = "tuning.host_weights"


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


def check_disk(settings: Settings, epoch: Epoch, info: CheckpointInfo, host: HostWeights, run_folder: Path, classes: int = 1) -> None:
    """See that the files of a run find room: the result, saved states, a preview's checkpoint and class images, together where they
    go to one disk. Files that a resumed run has written before count as existing.

    Args:
        settings: in their form.
        epoch: what an epoch of the images shows.
        classes: of the subjects; each has class images of its own.

    Raises:
        InputError: they do not, with the figures.
    """
    try:
        facts = method_costs.facts_of(info, host)
    except CheckpointChangedError:  # the run waits for its checkpoint first
        return
    definite = automatic_settings.resolved(settings, epoch, 1)[0]
    needs = method_costs.disk_needs_of(definite, facts, host.paths, epoch, classes)
    there = sum(path.stat().st_size for path in run_folder.glob("*.safetensors"))
    left = [need._replace(size=need.size - there) if need.name == disk_needs.STATES else need for need in needs]
    for disk in disk_needs.disks(left):
        if disk.free < disk.need:
            raise InputError([Problem("name", _too_little(definite, epoch, disk))])


def _too_little(settings: Settings, epoch: Epoch, disk: disk_needs.Disk) -> str:
    digits = 1 if settings.method == "dreambooth" else 3
    listed = ", ".join(f"{need.name} {need.size / 1e9:.{digits}f} GB" for need in disk.needs)
    message = (
        f"Too little disk: {disk.need / 1e9:.{digits}f} GB are needed on the disk of {disk.place} ({listed}), "
        f"{disk.free / 1e9:.{digits}f} are free. "
    )
    message += "Free some space" + ", or set tuning.weights to bf16" * (settings.method == "dreambooth")
    message += ", or preview.every to 0" * any(need.name == disk_needs.PREVIEW for need in disk.needs)
    message += ", or saving.states to last" * (memory_plan.states_at_once(settings, epoch) > memory_plan.FEWEST_STATES)
    return message + "."
