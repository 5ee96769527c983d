"""Results: the files that a job made, on the way and at the end, and what a person does with them."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_finetune.app import feedback
from lib_finetune.assembly.artifact_kinds import artifact_kind_of, artifact_kinds_of, targets
from lib_finetune.errors import InputError, Problem, SaveError
from lib_finetune.evaluation.watch import COLOUR
from lib_finetune.export import lora_file
from lib_finetune.files import bears_name_of, open_in_file_manager, write_atomically
from lib_finetune.jobs.job import Job
from lib_finetune.jobs.status import figures_of, status_of
from lib_finetune.model import tensor_file
from lib_finetune.ports.host import Host

if TYPE_CHECKING:
    from lib_finetune.access import Folders
    from lib_finetune.jobs.background_task import BackgroundTask
    from lib_finetune.jobs.queue import Jobs

_BESIDE = (".json", ".yaml", ".png", ".preview.png", ".txt", ".description.txt")
"""Files that belong to a result, by what follows its stem."""
_NAMES = ("ss_output_name", "modelspec.title", "name")
"""Metadata that holds the file's own name."""


class Results:
    """The results of one host's jobs."""

    def __init__(self, jobs: Jobs, folders: Folders) -> None:
        """
        Args:
            folders: which ones requests may name; tells whether the page is used from other machines.
        """
        self._jobs = jobs
        self._folders = folders

    def next_step(self, name: str) -> feedback.Change | None:
        """What the figures of a job suggest; None where they say nothing.

        Raises:
            InputError: no such job.
        """
        job = self._jobs.known.find(name)
        figures = figures_of(job)
        return feedback.next_step(job.progress.losses, sorted(choices(job)), figures["validation"], figures["watch"].get(COLOUR, ()))

    def feedback(self, name: str, answer: str) -> feedback.Change:
        """One change that answers "too weak" or "overdone".

        Raises:
            InputError: no such job or answer.
        """
        job = self._jobs.known.find_whole(name)
        return feedback.change(answer, job.settings, job.progress.losses, sorted(choices(job)), status_of(job)["validation"])

    def pick(self, name: str, step: int, *, delete_others: bool) -> dict[str, str]:
        """See `pick`; the host's lists are refreshed."""
        files = pick(self._jobs.known.find(name), step, self._jobs.host, delete_others=delete_others)
        return {kind: str(path) for kind, path in files.items()}

    def file(self, name: str, kind: str) -> Path | None:
        """The result of a kind; None where there is none, or the record names a file that the job cannot have made.

        Raises:
            InputError: no such job.
        """
        job = self._jobs.known.find(name)
        path = Path(job.record.files.get(kind) or "")
        return path if is_own(job, self._jobs.host, kind, path) and path.is_file() else None

    def select(self, name: str) -> BackgroundTask:
        """Load the checkpoint that a job made, before the next job begins.

        Raises:
            InputError: the job made none.
        """
        job, host = self._jobs.known.find(name), self._jobs.host
        path = Path(job.record.files.get("checkpoint") or "")
        if not path.is_file():
            raise InputError([Problem("id", f"{job.settings.name} has no checkpoint to load.")])

        def work(_: BackgroundTask) -> dict[str, Any]:
            host.load(dataclasses.replace(host.checkpoint(), name=path.stem, path=path, sha256=None, short_hash=None))
            return {}

        return self._jobs.tasks.add("select", work, name)

    def open_folder(self, name: str) -> None:
        """Show the folder of a job's result on the screen of this machine.

        Raises:
            InputError: the job made no file, or the page is used from other machines.
        """
        job = self._jobs.known.find(name)
        if self._folders.allowed is not None:
            raise InputError(f"The folder would open on the WebUI's machine, not on yours. It is {job.file and job.file.parent}.")
        if job.file is None:
            raise InputError([Problem("id", f"{job.settings.name} has no file.")])
        open_in_file_manager(job.file.parent)


def choices(job: Job) -> dict[int, dict[str, Path]]:
    """Step → kind → file of everything that the job made and that is still there; the result itself is that of ``record.steps``."""
    files_by_step = {step: files for step, files in sorted(job.snapshots.items()) if _are_there(files)}
    final = {kind: Path(path) for kind, path in job.record.files.items()}
    if final and _are_there(final):
        files_by_step[job.record.steps] = final
    return dict(sorted(files_by_step.items()))


def _are_there(files: Mapping[str, Path]) -> bool:
    try:
        return all(path.is_file() for path in files.values())
    except (OSError, ValueError):  # a folder that may not be looked into, a name that cannot be
        return False


def call(job: Job) -> str:
    """What is written in a prompt to use the job's result; for a checkpoint "", because it is chosen from the list."""
    if job.file is None or job.settings.method == "dreambooth":
        return ""
    if job.settings.method == "textual_inversion":
        return job.file.stem
    words = artifact_kind_of(job.settings).call(job.file.stem, job.settings)
    trigger = " ".join(word for word in (job.settings.data.trigger, job.settings.data.class_word) if word)
    return words if job.settings.method == "pivotal_tuning" else f"{words} {trigger}".strip()


def pick(job: Job, step: int, host: Host, *, delete_others: bool) -> dict[str, Path]:
    """Make the files of a step the result: they get the result's name, with its card and image; the old result gets the step's name.

    Returns:
        kind → file of the result now.

    Raises:
        InputError: the job has not ended, made no file at this step, or its record names a file that is not its own.
        SaveError: a file could not be moved; nothing is lost.
    """
    files_by_step = choices(job)
    if not job.ended or step not in files_by_step:
        known = ", ".join(map(str, files_by_step)) or "none"
        raise InputError([Problem("step", f"{job.settings.name} has no file of step {step}. There are: {known}.")])
    _refuse_strange(job, host)
    final = {kind: Path(path) for kind, path in job.record.files.items()} or _targets(job, host)
    others = {other: files for other, files in files_by_step.items() if other not in (step, job.record.steps)}
    if step != job.record.steps:
        if job.record.files and job.record.steps in files_by_step:
            others[job.record.steps] = _set_aside(final, job.record.steps)
            remove(final, host, card_too=False)  # what the host remembers of this name is the old file
        for kind, path in files_by_step[step].items():
            _rename(path, final[kind])
        remove(files_by_step[step], host)
        job.record.steps, job.record.picked = step, step
    job.file, job.record.files = next(iter(final.values())), {kind: str(path) for kind, path in final.items()}
    if delete_others:
        for files in others.values():
            remove(files, host)
        others = {}
    job.keep_snapshots(others)
    job.record.keep_points(others)
    job.record.save(job.folder)
    return final


def _refuse_strange(job: Job, host: Host) -> None:
    """The record lies in a folder that others write to as well, and what it names is renamed and deleted here.

    Raises:
        InputError: it names a file that this job cannot have made.
    """
    for files in (job.record.files, *job.record.points.values()):
        for kind, path in files.items():
            if not is_own(job, host, kind, Path(path)):
                raise InputError(
                    f"The record of {job.settings.name} names {path}, which is no file of this job. Nothing was changed; "
                    "choose the file in its folder by hand."
                )


def is_own(job: Job, host: Host, kind: str, path: Path) -> bool:
    """Whether a file is one that the job can have made: a record lies in a folder that others write to as well."""
    target = targets(job.settings, host.paths, job.settings.name).get(kind)
    return target is not None and bears_name_of(path, target)


def _targets(job: Job, host: Host) -> dict[str, Path]:
    """Where the result of a job that ended without one goes.

    Raises:
        InputError: a file of that name is there.
    """
    targets = {product.kind: product.target(host.paths, job.settings, job.settings.name) for product in artifact_kinds_of(job.settings)}
    for path in targets.values():
        lora_file.refuse_taken(path, overwrite=job.settings.saving.overwrite)
    return targets


def remove(files: Mapping[str, Path], host: Host, *, card_too: bool = True) -> None:
    """Delete files and have the host read its lists again."""
    for kind, path in files.items():
        for file in (path, *(beside(path) if card_too else ())):
            file.unlink(missing_ok=True)
        host.files.artifact_removed(kind, path)


def _set_aside(final: Mapping[str, Path], step: int) -> dict[str, Path]:
    """Give the files of the result the name of their step."""
    aside = {kind: path.with_name(f"{path.stem}-{step:06d}{path.suffix}") for kind, path in final.items()}
    for kind, path in final.items():
        _rename(path, aside[kind])
        for end in (".json", ".yaml"):
            if path.with_suffix(end).is_file():
                write_atomically(aside[kind].with_suffix(end), path.with_suffix(end).read_bytes())
    return aside


def _rename(source: Path, target: Path) -> None:
    """Give a file another name, inside it too: the WebUI calls a LoRA by the name in its metadata as well."""
    if target.suffix == ".safetensors":
        tensor_file.renamed(source, target, dict.fromkeys(_NAMES, target.stem))
        return
    try:
        shutil.copyfile(source, target.with_suffix(".part"))
        target.with_suffix(".part").replace(target)
    except OSError as error:
        raise SaveError(f"{source} could not be copied to {target}: {error.strerror or error}. Both are as they were.") from error


def beside(path: Path) -> list[Path]:
    """Files that belong to a result: its card, picture, configuration and description."""
    return [path.with_name(path.stem + end) for end in _BESIDE if path.with_name(path.stem + end).is_file()]
