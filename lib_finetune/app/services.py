"""All services over one host and its queue, built once in a process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lib_finetune.access import Folders
from lib_finetune.app.class_gallery import ClassImages
from lib_finetune.app.comparison_grid import ComparisonGrids
from lib_finetune.app.datasets import Datasets
from lib_finetune.app.library import Library
from lib_finetune.app.lora_tools import LoraTools
from lib_finetune.app.method_advisor import MethodAdvisor
from lib_finetune.app.painted_masks import PaintedMasks
from lib_finetune.app.presets import Presets
from lib_finetune.app.report import Reports
from lib_finetune.app.results import Results
from lib_finetune.app.settings_files import SettingsFiles
from lib_finetune.app.storage import Storage
from lib_finetune.app.thumbnails import Thumbnails
from lib_finetune.app.trainings import Trainings
from lib_finetune.jobs.queue import Jobs

if TYPE_CHECKING:
    from lib_finetune.ports.host import Host


@dataclass(frozen=True)
class Services:
    """What tab and API can ask for, one service a noun. Any thread."""

    jobs: Jobs
    folders: Folders
    settings_files: SettingsFiles
    presets: Presets
    datasets: Datasets
    masks: PaintedMasks
    advisor: MethodAdvisor
    trainings: Trainings
    results: Results
    comparison_grids: ComparisonGrids
    storage: Storage
    library: Library
    lora_tools: LoraTools
    class_images: ClassImages
    thumbnails: Thumbnails
    reports: Reports

    @property
    def host(self) -> Host:
        """The host whose jobs these are."""
        return self.jobs.host


def services_of(jobs: Jobs, folders: Folders | None = None) -> Services:
    """The services over a queue.

    Args:
        folders: the folders that requests may name; None for any.
    """
    allowed = folders or Folders()
    settings_files = SettingsFiles(jobs.host.paths.data, allowed)
    thumbnails = Thumbnails(jobs.host.paths.data)
    datasets = Datasets(jobs, thumbnails)
    grids = ComparisonGrids(jobs)
    jobs.when_ended(grids.compare_when_group_has_ended)
    return Services(
        jobs=jobs,
        folders=allowed,
        settings_files=settings_files,
        presets=Presets(jobs.host.paths.data),
        datasets=datasets,
        masks=PaintedMasks(datasets),
        advisor=MethodAdvisor(jobs, datasets),
        trainings=Trainings(jobs, settings_files),
        results=Results(jobs, allowed),
        comparison_grids=grids,
        storage=Storage(jobs),
        library=Library(jobs),
        lora_tools=LoraTools(jobs, allowed),
        class_images=ClassImages(jobs),
        thumbnails=thumbnails,
        reports=Reports(jobs),
    )


_SERVICES: dict[str, Services] = {}
_ONE_AT_A_TIME = threading.Lock()


def services(key: str, make_host: Callable[[], Host], folders: Callable[[], Folders], outdated: Callable[[], str] = str) -> Services:
    """The services of this process for ``key``: packages survive the WebUI's Reload UI, so jobs are found again after it.

    Args:
        outdated: see `Jobs`.
    """
    with _ONE_AT_A_TIME:
        if key not in _SERVICES:
            _SERVICES[key] = services_of(Jobs(make_host(), outdated), folders())
        return _SERVICES[key]
