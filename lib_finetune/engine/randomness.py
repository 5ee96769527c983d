"""Random states: ours are set from the seed at every step, the host's come back at the end of every turn."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from lib_finetune.maths.noise import step_seed

_LOSS, _DROPOUT = 1, 2


@contextmanager
def kept() -> Iterator[None]:
    """Leave Python's, numpy's and torch's (CPU and CUDA) global random states as they were found."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


def for_step(seed: int, micro_step: int) -> torch.Generator:
    """Seed dropout's global state for a step and return the generator of its noise.

    Because both depend on nothing but seed and step, a run that is interrupted at any step goes on exactly.
    """
    torch.manual_seed(step_seed(seed, micro_step, _DROPOUT))
    return torch.Generator().manual_seed(step_seed(seed, micro_step, _LOSS))
