"""The form of a run: what the free memory decides of its settings, and whether the disk has room for it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lib_finetune.assembly import automatic_settings
from lib_finetune.assembly.artifact_kinds import targets
from lib_finetune.config.fields import replaced, value_at
from lib_finetune.errors import InputError, Problem
from lib_finetune.estimates import memory_plan, method_costs

if TYPE_CHECKING:
    from lib_finetune.config.settings import Settings
    from lib_finetune.data.plan import Epoch
    from lib_finetune.ports.checkpoint import CheckpointInfo
    from lib_finetune.ports.host import HostWeights

_PLACE = "tuning.host_weights"


def in_chosen_form(
    settings: Settings, stored: Settings | None, epoch: Epoch, info: CheckpointInfo, host: HostWeights, run_folder: Path
) -> tuple[Settings, list[str]]:
    """The settings with what the free memory decides (gradient checkpointing, how DreamBooth holds its weights), and notes on it.

    A resumed run keeps its form, whatever is free now; only the place of the host's model is chosen anew.

    Args:
        stored: of the run that is resumed; None for a new one.
        epoch: what an epoch of the images shows.

    Raises:
        InputError: memory or disk do not suffice for DreamBooth, with the figures.
    """
    if stored is not None:
        settings = in_form_of(stored, settings, but=(_PLACE,))
    if settings.method != "dreambooth":
        return (settings, []) if stored is not None else memory_plan.choose_checkpointing(settings, host.device, host.memory().free)
    with host.lease(info, ()) as lease:
        weights, memory = memory_plan.weights_of(lease), host.memory()
        base_bytes = method_costs.stored(info.path, lease)
    if stored is not None:
        return memory_plan.placed(settings, weights, host.device, memory.free, memory.ram), []
    settings, note = memory_plan.choose_memory_plan(settings, weights, host.device, memory.free, memory.ram)
    definite = automatic_settings.resolved(settings, epoch, 1)[0]
    _check_disk(definite, epoch, weights.counts, base_bytes, host, run_folder)
    return settings, [note]


def in_form_of(stored: Settings, settings: Settings, but: tuple[str, ...] = ()) -> Settings:
    """The settings with what an earlier run chose by the memory that was free, where they leave it open.

    Args:
        but: dotted paths that stay as they are.
    """
    for path in memory_plan.LEVERS:
        if value_at(settings, path) in ("auto", False) and path not in but:
            settings = replaced(settings, path, value_at(stored, path))
    return settings


def _check_disk(
    settings: Settings, epoch: Epoch, counts: Mapping[str, int], base_bytes: Mapping[str, int], host: HostWeights, run_folder: Path
) -> None:
    """Files and states must find room together where they go to one disk.

    Raises:
        InputError: they do not, with the figures.
    """
    file_bytes = method_costs.checkpoint_bytes(settings, counts, base_bytes)
    needs = method_costs.disk_wants(settings, file_bytes, counts, epoch)
    result_folder = next(iter(targets(settings, host.paths, "x").values())).parent
    names = ("the checkpoint", "the saved states", "a preview's checkpoint")
    disks: dict[int, list[tuple[Path, int, str]]] = {}
    for place, need, name in zip((result_folder, run_folder, run_folder), needs, names, strict=True):
        place.mkdir(parents=True, exist_ok=True)
        if need:
            disks.setdefault(place.stat().st_dev, []).append((place, need, name))
    for parts in disks.values():
        place, free, need = parts[0][0], shutil.disk_usage(parts[0][0]).free, sum(size for _, size, _ in parts)
        if free < need:
            listed = ", ".join(f"{name} {size / 1e9:.1f} GB" for _, size, name in parts)
            message = f"Too little disk: {need / 1e9:.1f} GB are needed on the disk of {place} ({listed}), {free / 1e9:.1f} are free. "
            message += "Free some space, or set tuning.weights to bf16"
            message += ", or preview.every to 0" * bool(needs[-1])
            message += ", or saving.states to last" * (memory_plan.states_at_once(settings, epoch) > memory_plan.FEWEST_STATES)
            raise InputError([Problem("name", message + ".")])
