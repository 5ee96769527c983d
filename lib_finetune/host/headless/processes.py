"""Processes that a launcher has started (``accelerate launch``, ``python -m torch.distributed.run``), joined by Accelerate."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from lib_finetune.errors import DependencyError
from lib_finetune.ports.processes import ALONE, Processes


class LaunchedProcesses:
    """Implements `ports.Processes` with the collectives of torch.distributed.

    Attributes:
        device: that of this process.
    """

    def __init__(self) -> None:
        """Join the others; each process takes the GPU of its own number.

        Raises:
            DependencyError: Accelerate is missing.
        """
        try:
            from accelerate import PartialState
        except ImportError as error:
            raise DependencyError("Several processes need the library accelerate. Install it, or train in one process.") from error
        state = PartialState(cpu=not torch.cuda.is_available())
        self.rank, self.count, self.device = int(state.process_index), int(state.num_processes), state.device

    def add(self, tensors: Sequence[torch.Tensor]) -> None:
        """See `Processes`."""
        for tensor in tensors:
            torch.distributed.all_reduce(tensor)

    def first_says(self, answer: bool) -> bool:
        """See `Processes`."""
        said_first = torch.tensor(int(answer), device=self.device)
        torch.distributed.broadcast(said_first, src=0)
        return bool(said_first)

    def wait(self) -> None:
        """See `Processes`."""
        torch.distributed.barrier()


def launched_count() -> int:
    """How many processes the launcher has started; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1") or 1)


@contextmanager
def launched() -> Iterator[Processes]:
    """The processes of this launch, joined inside; `ALONE` without a launcher.

    Raises:
        DependencyError: see `LaunchedProcesses`.
    """
    if launched_count() == 1:
        yield ALONE
        return
    processes = LaunchedProcesses()
    try:
        yield processes
    finally:
        torch.distributed.destroy_process_group()
