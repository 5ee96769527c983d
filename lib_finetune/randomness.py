"""Random states: ours follow from the seed at every step; torch's global ones are the host's again right after what draws from them.

Python's and numpy's global states are never touched: other threads draw from them at any time, and would draw the same twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_LOSS, _DROPOUT = 1, 2


@contextmanager
def preserved() -> Iterator[None]:
    """Leave torch's global random states (CPU and CUDA) as they were found. For as short a time as may be: whoever draws meanwhile draws again."""
    cpu = torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


def for_step(seed: int, micro_step: int) -> torch.Generator:
    """Seed torch's global states, from which dropout and stochastic rounding draw, and return the generator of the step's noise.

    Because both depend on nothing but seed and step, a run that is interrupted at any step resumes exactly. Call inside `kept`.
    """
    torch.manual_seed(step_seed(seed, micro_step, _DROPOUT))
    return noise_of(seed, micro_step)


def noise_of(seed: int, micro_step: int) -> torch.Generator:
    """The generator of a step's noise alone."""
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
