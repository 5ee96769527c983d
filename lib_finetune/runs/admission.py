"""Admission: the checkpoint on which a run may begin or resume."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from lib_finetune.errors import InputError
from lib_finetune.model import checkpoint_reader
from lib_finetune.runs import checkpoint_record

if TYPE_CHECKING:
    from lib_finetune.ports.checkpoint import CheckpointInfo
    from lib_finetune.ports.events import ProgressSink
    from lib_finetune.ports.host import HostWeights
    from lib_finetune.runs.folder import RunFolder


def checkpoint_of_run(whole_model: bool, host: HostWeights, folder: RunFolder, sink: ProgressSink) -> CheckpointInfo:
    """The loaded checkpoint, or the one that a resumed run began on, loaded for it.

    Args:
        whole_model: whether the run writes a checkpoint, for which the hash of its base is made where the host has none.

    Raises:
        InputError: its file was replaced since, or the host now takes it for a model of another prediction.
        HostError: it is gone, or the host cannot load it.
    """
    loaded = host.checkpoint()
    if whole_model and loaded.sha256 is None and loaded.path and loaded.path.is_file():
        loaded = dataclasses.replace(loaded, sha256=checkpoint_reader.sha256(loaded.path))
    began = checkpoint_record.stored(folder) if folder.resumes() else None
    if began is None:
        if folder.resumes():
            sink.say(
                f"{folder.checkpoint_file.name} of this run is missing, so it cannot be told whether it began on {loaded}. The run continues."
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
