"""What each of several processes that train together is given: settings that can be shared, and a folder of its own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lib_finetune.assembly.automatic_settings import prior_of
from lib_finetune.config import codec
from lib_finetune.errors import InputError, Problem

if TYPE_CHECKING:
    from lib_finetune.config.settings import Settings
    from lib_finetune.ports.processes import Processes

_RUNS = Path(".finetune") / "runs"


def settings_of_process(settings: Settings, processes: Processes) -> Settings:
    """The settings of one process: those of the run, without previews for all but the first.

    The processes share the batches of a step, so that the result is that of one process with the same settings.

    Raises:
        InputError: settings whose steps cannot be shared, all of them at once.
    """
    if processes.count == 1:
        return settings
    if problems := list(_problems(settings, processes.count)):
        raise InputError(problems)
    return settings if processes.rank == 0 else codec.with_values(settings, [("preview.enabled", "false")])


def _problems(settings: Settings, count: int) -> Iterator[Problem]:
    shared = settings.training.accumulation
    if shared % count:
        better = -(-shared // count) * count
        yield Problem(
            "training.accumulation",
            f"is {shared}, but {count} processes share the batches of a step evenly. Set it to {better}, or to another multiple of {count}.",
        )
    if settings.method == "dreambooth" and settings.tuning.in_backward != "off":
        yield Problem(
            "tuning.in_backward",
            f"is {settings.tuning.in_backward!r}, but a step in the backward pass cannot wait for other processes. Set it to off.",
        )
    if settings.method == "dreambooth" and settings.tuning.host_weights == "exchange":
        yield Problem("tuning.host_weights", "is 'exchange', which several processes do not do. Set it to beside.")
    if prior_of(settings) == "pictures" and settings.data.class_count:
        yield Problem(
            "data.class_count",
            "asks for class images to be made, and each process would make them anew. Make them first with one process, then name their "
            "folder (data.class_images) and set data.class_count to 0.",
        )


@contextmanager
def root_of_process(processes: Processes, root: Path, name: str) -> Iterator[Path]:
    """The folder of results of one process: the person's for the first; for the others one that goes, with the states to resume from.

    Args:
        name: of the run.
    """
    if processes.rank == 0:
        processes.wait()  # the others read what is there before anything is written
        yield root
        return
    with tempfile.TemporaryDirectory(prefix="finetune-", ignore_cleanup_errors=True) as folder:
        for run in sorted((root / _RUNS).glob(f"*-{name}")):
            shutil.copytree(run, Path(folder) / _RUNS / run.name, ignore=shutil.ignore_patterns("*.lock"))
        processes.wait()
        yield Path(folder)
