"""A free name for a result."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from lib_finetune.assembly.artifact_kinds import artifact_kinds_of
from lib_finetune.config.settings import Settings
from lib_finetune.files import same_name, standing
from lib_finetune.jobs.job import Job
from lib_finetune.ports.files import Paths


def free_name(name: str, method: str, jobs: Iterable[Job], paths: Paths) -> str:
    """``name``, with a number behind it if an unended job or a file of the method has the name."""
    taken = [job.settings.name for job in jobs if not job.ended]
    free, number = name, 2
    while any(same_name(other, free, paths.data) for other in taken) or any(map(standing, _targets(free, method, paths))):
        free, number = f"{name}-{number}", number + 1
    return free


def _targets(name: str, method: str, paths: Paths) -> list[Path]:
    settings = replace(Settings(), method=method, name=name)
    return [kind.target(paths, settings, name) for kind in artifact_kinds_of(settings)]
