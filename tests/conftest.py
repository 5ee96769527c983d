"""What holds for every test: its tier, no network, the same number of threads, the same random numbers."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib_finetune.installation.requirements import library_set_here

# Read by the libraries when they are first imported, hence here and not in a fixture.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: threads would only wait for one another
os.environ.setdefault("MKL_CBWR", "AUTO")  # without it two equal runs differ in the last digit

SEED = 20240607

TESTS = Path(__file__).resolve().parent

#: A test has one of these; CONTRIBUTING.md says what each proves and how long it takes.
TIERS = ("unit", "integration", "slow", "browser")

#: A test that has one of these is in no tier: it runs only when it is asked for.
ASKED_FOR = ("environment", "webui")

#: Folders and files whose tests run a whole training, serve pages, start programs or open the trained checkpoint.
INTEGRATION = (
    "api",
    "app",
    "bench",
    "examples",
    "installation",
    "jobs",
    "runs",
    "security",
    "ui",
    "test_cli.py",
    "test_manners.py",
    "test_tiers.py",
)

#: A test file that uses this module runs whole trainings on the fake host.
WHOLE_RUNS = "tests.fakes.runs"


def tier_of(item: pytest.Item) -> str | None:
    """The tier of a test: the one that it is marked with; else "integration" by its place or because its file uses whole runs; else "unit"."""
    marked = [mark.name for mark in item.iter_markers() if mark.name in (*TIERS, *ASKED_FOR)]
    if marked:
        return marked[0] if marked[0] in TIERS else None
    place = item.path.relative_to(TESTS).parts[0]
    used = {getattr(value, "__module__", None) for value in vars(getattr(item, "module", None) or object).values()}
    return "integration" if place in INTEGRATION or WHOLE_RUNS in used else "unit"


@pytest.hookimpl(tryfirst=True)  # before pytest picks by -m
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test the mark of its tier."""
    for item in items:
        if tier := tier_of(item):
            item.add_marker(tier)
        if item.path.is_relative_to(TESTS / "faults") and library_set_here() == "newest" and not os.environ.get("FINETUNE_FAULTS"):
            item.add_marker(
                pytest.mark.skip(reason="what a run does about faults is tried on the set host; FINETUNE_FAULTS=all asks for it here")
            )
    # The journey through the page takes minutes and little of the processor: it goes on beside all the others.
    items.sort(key=lambda item: item.get_closest_marker("browser") is None)


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
