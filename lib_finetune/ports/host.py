"""The program whose checkpoint is trained on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

    from lib_finetune.ports.captions import HostCaptions
    from lib_finetune.ports.checkpoint import CheckpointInfo
    from lib_finetune.ports.files import HostFiles, Paths
    from lib_finetune.ports.lease import Lease, TextTools
    from lib_finetune.ports.pictures import HostPictures
    from lib_finetune.ports.processes import Processes


@dataclass(frozen=True)
class MemoryUse:
    """Bytes: on CUDA reserved by torch, on the CPU the resident set of the process."""

    now: int
    peak: int
    total: int
    free: int = 0
    """What can still be had; 0 where the system does not tell."""
    ram: int = 0
    """The same of main memory, which on the CPU is the device's."""


_NAMED = 3
"""Differences that the line of a report names."""


@dataclass(frozen=True)
class Restoration:
    """The outcome of comparing the host before and after a run.

    Attributes:
        differences: one sentence for each thing that is not as it was; empty when all is.
        tensors: how many tensors were compared bit for bit.
        seconds: time that the comparison took.
    """

    differences: tuple[str, ...] = ()
    tensors: int = 0
    seconds: float = 0.0

    @property
    def line(self) -> str:
        """The one line of the report; it names the first few differences and counts the others."""
        if self.differences:
            named, others = self.differences[:_NAMED], len(self.differences) - _NAMED
            return "NOT as it was: " + "; ".join(named) + (f"; and {others} more" if others > 0 else "")
        if not self.tensors:
            return "Another checkpoint is loaded now; every turn left the model as it found it."
        return f"The model is exactly as it was: {self.tensors} tensors equal bit for bit, checked in {self.seconds:.1f} s."


class HostWeights(Protocol):
    """The checkpoint that a host has loaded, and the right to use it. Used from the job's thread only, except where said."""

    @property
    def paths(self) -> Paths:
        """Any thread; does not block."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    @property
    def processes(self) -> Processes:
        """Those that train together, each on a host of its own."""

    def refusals(self) -> list[str]:
        """Why training cannot start in this state, a sentence each, with the flag to remove ("--lowvram", fp8). Empty: it can."""

    def checkpoint(self) -> CheckpointInfo:
        """The checkpoint now loaded; may block while one is loading.

        Raises:
            HostError: none is loaded and none can be.
        """

    def text_tools(self) -> TextTools:
        """Tokenizer and options of the loaded text encoder."""

    def lease(
        self, checkpoint: CheckpointInfo | None = None, parts: Iterable[str] = ("unet", "text", "vae"), *, alone: bool = False
    ) -> AbstractContextManager[Lease]:
        """Take the host's turn: blocks until it is ours, cleans the weights, brings ``parts`` to the device; gives all back on leaving.

        Args:
            checkpoint: the checkpoint that training began on; None for whatever is loaded.
            parts: which of "unet", "text", "vae" are needed on the device.
            alone: the other parts lie in main memory meanwhile.

        Raises:
            CheckpointChangedError: another checkpoint or VAE is loaded. The turn is not taken.
            HostError: the model cannot be borrowed.
        """

    def waiting(self) -> bool:
        """Whether somebody waits for the turn; asked inside a lease. True where the host cannot tell."""

    def between_turns(self) -> None:
        """Called with no lease held: returns when requests that wait for the turn have had theirs (never blocks more than seconds)."""

    def load(self, checkpoint: CheckpointInfo) -> None:
        """Load the checkpoint and VAE of ``checkpoint`` (the person chose "load X and resume").

        Raises:
            HostError: it is gone or does not load.
        """

    def remember(self) -> Sequence[str]:
        """Take the image of the host that `restoration` compares with. Called once a run, under no lease.

        Returns:
            What the person should know of the host before images are made in it, a line each.
        """

    def restoration(self) -> Restoration:
        """Compare the host with what `remember` saw."""

    def memory(self) -> MemoryUse:
        """Device memory now and at its peak since the last `remember`."""


class Host(HostWeights, Protocol):
    """The program whose checkpoint is trained on. Who needs one of its parts only takes that part."""

    @property
    def files(self) -> HostFiles:
        """Receives the files that are written."""

    @property
    def pictures(self) -> HostPictures:
        """The host's own txt2img."""

    @property
    def captions(self) -> HostCaptions:
        """What can say what an image shows."""
