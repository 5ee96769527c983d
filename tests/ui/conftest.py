"""The tab over a host that trains nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lib_finetune.app.services import Services, services_of
from lib_finetune.jobs.job import Job
from lib_finetune.jobs.queue import Jobs
from tests.fakes.runs import Bench, settings


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return services_of(Jobs(Bench(tmp_path).host()))


@pytest.fixture
def images(services: Services) -> Path:
    """A folder with three images."""
    return Path(services.host.paths.data).parent.parent / "pictures"


@pytest.fixture
def tab(services: Services) -> Any:
    pytest.importorskip("gradio", reason="gradio belongs to the WebUI's library set")
    from lib_finetune.ui.tab import Tab

    tab = Tab(lambda: services, list)
    tab.build()
    return tab


@pytest.fixture
def waiting(services: Services, images: Path) -> Iterator[Callable[[str], Job]]:
    """Queues jobs by name in a queue that is held; what waits at the end is cancelled."""
    services.jobs.hold()
    yield lambda name: services.jobs.submit(settings(images, {"name": name}))
    for job in services.jobs.known.waiting():
        services.jobs.cancel(job.folder.name)
