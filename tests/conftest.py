"""What holds for every test: no network, the same number of threads, the same random numbers."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator

import pytest

# Read by the libraries when they are first imported, hence here and not in a fixture.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: threads would only wait for one another
os.environ.setdefault("MKL_CBWR", "AUTO")  # without it two equal runs differ in the last digit

SEED = 20240607


@pytest.fixture(autouse=True)
def same_random_numbers() -> Iterator[None]:
    """Seed whatever generators are there, and undo a change of torch's thread count; imports neither numpy nor torch by itself."""
    random.seed(SEED)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(SEED)
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    torch.manual_seed(SEED)
    threads = torch.get_num_threads()
    yield
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
