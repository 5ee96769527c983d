"""Random states: ours are set from the seed at every step, the host's come back at the end of every turn."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

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


def step_seed(seed: int, step: int, stream: int) -> int:
    """A seed for one stream of one step: the same for the same three numbers, unrelated for others (splitmix64).

    Steele et al., Fast Splittable Pseudorandom Number Generators, OOPSLA 2014.
    """
    mask = (1 << 64) - 1
    value = (seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03 + stream * 0x8CB92BA72F3D8DD7) & mask
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        value = ((value ^ (value >> shift)) * factor) & mask
    return (value ^ (value >> 31)) & ((1 << 63) - 1)
