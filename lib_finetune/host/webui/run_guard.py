"""The guard of the WebUI's model while we use it: the turn, and the watch of the present run."""

from __future__ import annotations

from dataclasses import dataclass

from lib_finetune.errors import CheckpointChangedError, WeightsChangedError
from lib_finetune.host.webui import loading
from lib_finetune.host.webui.turn import Turn
from lib_finetune.host.webui.watch import Watch
from lib_finetune.ports.checkpoint import CheckpointInfo


@dataclass
class RunGuard:
    """Shared by the parts of one host.

    Attributes:
        watch: of the run, if one is on.
    """

    turn: Turn
    watch: Watch | None = None

    def refuse_broken(self) -> None:
        """
        Raises:
            WeightsChangedError: the run must stop, because weights were changed in a turn of ours and could not be put back.
        """
        if self.watch is not None and self.watch.broken:
            broken = self.watch.broken
            raise WeightsChangedError(str(broken), in_training=broken.in_training)  # a new one: frames would pile up


def refuse_other_than(checkpoint: CheckpointInfo) -> None:
    """
    Raises:
        CheckpointChangedError: another checkpoint or VAE is loaded.
        HostError: none is loaded.
    """
    loaded = loading.info()
    if loaded.identity != checkpoint.identity:
        raise CheckpointChangedError(str(checkpoint), str(loaded))
