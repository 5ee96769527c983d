"""What decides whether and in which form a run may begin: its checkpoint, memory and disk."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from lib_finetune.assembly import automatic_settings, builder
from lib_finetune.assembly.artifact_kinds import targets
from lib_finetune.config.fields import replaced, value_at
from lib_finetune.errors import InputError, Problem
from lib_finetune.estimates import memory_plan, method_costs
from lib_finetune.model import checkpoint_reader
from lib_finetune.runs import checkpoint_record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lib_finetune.assembly.dataset import Dataset
    from lib_finetune.config.settings import Settings
    from lib_finetune.data.plan import Epoch
    from lib_finetune.ports.checkpoint import CheckpointInfo
    from lib_finetune.ports.events import ProgressSink
    from lib_finetune.ports.host import Host
    from lib_finetune.runs.folder import RunFolder


def checkpoint_of_run(settings: Settings, host: Host, folder: RunFolder, sink: ProgressSink) -> CheckpointInfo:
    """The loaded checkpoint, or the one that a resumed run began on, loaded for it.

    Raises:
        InputError: its file was replaced since, or is taken to predict something else now.
        HostError: it is gone, or the host cannot load it.
    """
    loaded = host.checkpoint()
    if settings.method == "dreambooth" and loaded.sha256 is None and loaded.path and loaded.path.is_file():
        loaded = dataclasses.replace(loaded, sha256=checkpoint_reader.sha256(loaded.path))
    began = checkpoint_record.stored(folder) if folder.resumes() else None
    if began is None:
        if folder.resumes():
            sink.say(
                f"{folder.checkpoint_file.name} of this run is missing, so it cannot be told whether it began on {loaded}. It goes on."
            )
        return checkpoint_record.begin(loaded, folder)
    checkpoint_record.check_unchanged(began, folder, sink.say)
    if began.identity != loaded.identity:
        sink.say(f"This run began on {began}; {loaded} is loaded. Loading {began}.")
        host.load(began)
    elif began.prediction != loaded.prediction:
        raise InputError(
            f"This run began with {loaded} as a model of {began.prediction}, and now it is taken as one of {loaded.prediction}. "
            f"On the command line add --prediction {began.prediction}; in the WebUI put the .yaml beside the checkpoint back and load it again."
        )
    return began


def in_chosen_form(settings: Settings, dataset: Dataset, info: CheckpointInfo, host: Host, folder: RunFolder) -> tuple[Settings, list[str]]:
    """The settings with what the free memory decides (gradient checkpointing, how DreamBooth holds its weights), and notes on it.

    A resumed run keeps its form, whatever is free now; only the place of the host's model is chosen anew.

    Raises:
        InputError: memory or disk do not suffice for DreamBooth, with the figures.
    """
    stored = folder.settings() if folder.resumes() else None
    if stored is not None:
        settings = _in_form_of(settings, stored)
    if settings.method != "dreambooth":
        return (settings, []) if stored is not None else memory_plan.choose_checkpointing(settings, host.device, host.memory().free)
    with host.lease(info, ()) as lease:
        weights, memory = memory_plan.weights_of(lease), host.memory()
        base_bytes = method_costs.stored(info.path, lease)
    if stored is not None:
        return memory_plan.placed(settings, weights, host.device, memory.free, memory.ram), []
    settings, note = memory_plan.choose_memory_plan(settings, weights, host.device, memory.free, memory.ram)
    epoch = builder.data_plan(settings, dataset).epoch
    definite = automatic_settings.resolved(settings, epoch, 1)[0]
    _check_disk(definite, epoch, weights.counts, base_bytes, host, folder)
    return settings, [note]


def _in_form_of(settings: Settings, stored: Settings) -> Settings:
    for path in memory_plan.LEVERS:
        if value_at(settings, path) in ("auto", False) and path != "tuning.host_weights":
            settings = replaced(settings, path, value_at(stored, path))
    return settings


def _check_disk(
    settings: Settings, views: Epoch, counts: Mapping[str, int], base_bytes: Mapping[str, int], host: Host, folder: RunFolder
) -> None:
    """Files and states must find room together where they go to one disk.

    Raises:
        InputError: they do not, with the figures.
    """
    file_bytes = method_costs.checkpoint_bytes(settings, counts, base_bytes)
    needs = method_costs.disk_wants(settings, file_bytes, counts, views)
    result_folder = next(iter(targets(settings, host.paths, "x").values())).parent
    names = ("the checkpoint", "the saved states", "a preview's checkpoint")
    disks: dict[int, list[tuple[Path, int, str]]] = {}
    for place, need, name in zip((result_folder, folder.path, folder.path), needs, names, strict=True):
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
            message += ", or saving.states to last" * (memory_plan.states_at_once(settings, views) > memory_plan.FEWEST_STATES)
            raise InputError([Problem("name", message + ".")])
