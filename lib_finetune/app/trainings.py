"""Trainings: queued, resumed, cloned and compared, and shown as plain values."""

from __future__ import annotations

import dataclasses
import shutil
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lib_finetune.app import job_view
from lib_finetune.app.job_changes import Changes
from lib_finetune.config import codec
from lib_finetune.config.applying import applies
from lib_finetune.config.fields import replaced
from lib_finetune.config.settings import FURTHER_WAYS, Settings
from lib_finetune.errors import InputError, Problem
from lib_finetune.files import safe_name
from lib_finetune.jobs import record as records
from lib_finetune.jobs.folder_lock import run_lock
from lib_finetune.jobs.free_name import free_name
from lib_finetune.jobs.job import Job
from lib_finetune.jobs.queue import Jobs
from lib_finetune.jobs.run_folders import make_folder, unfinished
from lib_finetune.runs import saved_states
from lib_finetune.runs.continuation import further as prepare_further
from lib_finetune.runs.folder import RunFolder

if TYPE_CHECKING:
    from lib_finetune.app.settings_files import SettingsFiles

_COMPARED = {"lora": "lora", "dreambooth": "dreambooth", "textual_inversion": "ti"}
"""Method → what is put behind the name when the methods are compared."""


class Trainings:
    """One host's trainings. Any thread.

    Attributes:
        changes: what of `overview` is new to a client.
    """

    def __init__(self, jobs: Jobs, settings_files: SettingsFiles) -> None:
        self._jobs = jobs
        self._settings_files = settings_files
        self.changes = Changes(jobs)

    def view(self, job: Job) -> dict[str, Any]:
        """See `job_view.view`."""
        return job_view.view(job)

    def kept_states(self, name: str) -> list[int]:
        """Steps of a job whose states more steps can be trained from.

        Raises:
            InputError: there is no such job.
        """
        return list(saved_states.kept_states(RunFolder(self._jobs.known.find(name).folder)))

    def curves(self, name: str, step: int, line: int) -> dict[str, Any]:
        """See `job_view.curves`.

        Raises:
            InputError: there is no such job.
        """
        return job_view.curves(self._jobs.known.find(name), step, line)

    def overview(self, *, series: bool = True) -> dict[str, Any]:
        """All jobs, the waiting ones in their order, the background tasks, whether the queue is held, and why nothing can begin, if so.

        Args:
            series: also what of each job grows with its steps.
        """
        shown = job_view.view if series else job_view.figures
        return {
            "jobs": [shown(job) for job in self._jobs.known.all()],
            **job_view.queue(self._jobs),
            "errands": job_view.background_tasks(self._jobs),
        }

    def train(self, settings: Settings, editing: str = "") -> tuple[Job, bool]:
        """Queue a training; a job that waits, and that is being edited or has this name, gets these settings instead. Second: whether one did.

        Args:
            editing: the job whose settings the person has taken into the form to change them.

        Raises:
            InputError: everything that is wrong; nothing was queued or changed.
        """
        queue = self._jobs.known.waiting()
        waiting = [job for job in queue if job.folder.name == editing] or [job for job in queue if job.settings.name == settings.name]
        if waiting:
            self._jobs.edit(waiting[0].folder.name, settings)
            return waiting[0], True
        job = self._jobs.submit(settings)
        self._settings_files.keep_last(settings)
        return job, False

    def settings_for_form(self, job: Job, *, edit: bool) -> Settings:
        """A job's settings for the form: under its own name to edit a job that waits, else under a free one."""
        settings = self._jobs.known.find_whole(job.folder.name).settings
        return settings if edit else dataclasses.replace(settings, name=self._free_name(settings))

    def clone(self, name: str, changes: Mapping[str, str]) -> Job:
        """A new job with the settings of another and some of them changed, by dotted path and text.

        Raises:
            InputError: no such job, wrong changes, or the settings will not do.
        """
        settings = codec.with_values(self._jobs.known.find_whole(name).settings, changes.items())
        if "name" not in changes:
            settings = dataclasses.replace(settings, name=self._free_name(settings))
        return self._jobs.submit(self._settings_files.allowed(settings))

    def sweep(self, settings: Settings, path: str, values: Sequence[str]) -> list[Job]:
        """A job for each value of one setting, to be compared.

        Raises:
            InputError: no values, an unknown setting, one that changes nothing here, or one of the jobs will not do; nothing was queued.
        """
        if not [value for value in values if value.strip()]:
            raise InputError([Problem(path, "No values were given. Write some, separated by commas: 8, 16, 32.")])
        _check_named(settings)
        leaf = path.rpartition(".")[2].replace("_", "-")
        variants = []
        for value in (value.strip() for value in values if value.strip()):
            with_value = codec.with_values(settings, [(path, value)])
            if not applies(with_value, path):
                raise InputError(
                    [Problem(path, f"changes nothing in a training by {settings.method} with these settings. Choose another setting.")]
                )
            variants.append(dataclasses.replace(with_value, name=f"{settings.name}-{leaf}-{safe_name(value)}"))
        return self._together(variants)

    def compare(self, settings: Settings) -> list[Job]:
        """The same images through LoRA, DreamBooth and Textual Inversion, to be compared.

        Raises:
            InputError: one of the jobs will not do; nothing was queued.
        """
        _check_named(settings)
        variants = [dataclasses.replace(settings, method=method, name=f"{settings.name}-{end}") for method, end in _COMPARED.items()]
        return self._together(variants)

    def _free_name(self, settings: Settings) -> str:
        return free_name(settings.name, settings.method, self._jobs.known.all(), self._jobs.host.paths)

    def _together(self, variants: Sequence[Settings]) -> list[Job]:
        problems: list[Problem] = []
        names = Counter(settings.name for settings in variants)
        busy = {job.settings.name for job in self._jobs.known.all() if not job.ended}
        problems += [
            Problem("name", f"{name} would be made {count} times. Give each value once.") for name, count in names.items() if count > 1
        ]
        problems += [Problem("name", f"{name} is running or waits already. Choose another name.") for name in names if name in busy]
        for settings in variants:
            try:
                self._jobs.check(self._settings_files.allowed(settings))
            except InputError as error:
                problems += [Problem(problem.field, f"{problem.message} ({settings.name})") for problem in error.problems]
        if problems:
            raise InputError(list(dict.fromkeys(problems)))
        group = uuid.uuid4().hex[:8]
        return [self._jobs.submit(settings, group=group) for settings in variants]

    def unfinished(self) -> list[str]:
        """Names of runs that can be resumed and that nobody works on."""
        busy = {job.folder for job in self._jobs.known.all() if not job.ended}
        return [folder.name for folder in unfinished(self._jobs.host) if folder not in busy]

    def resume(self, name: str) -> Job:
        """Resume an unfinished run.

        Raises:
            InputError: there is none of this name.
        """
        if name not in self.unfinished():
            raise InputError([Problem("id", f"There is no unfinished run {name!r}." if name else "Choose an unfinished run first.")])
        folder = self._jobs.host.paths.data / "runs" / name
        settings = RunFolder(folder).settings()
        assert settings is not None  # unfinished() lists those whose settings can be read
        try:
            before = records.read(folder)
        except InputError:  # the run needs none
            before = None
        return self._jobs.submit(settings, folder, before.group if before else "")

    def more(self, name: str, steps: int, step: int | None = None, further: str = "") -> Job:
        """Train a job's result for more steps, from a state that was kept: that of ``step``, else of the point that was picked, else the last.

        Args:
            further: `optimizer.further` of the new run; "": that of the job.

        Raises:
            InputError: no such job, or no state was kept; then from its file alone, what to set is said.
        """
        job = self._jobs.known.find_whole(name)
        if further and further not in FURTHER_WAYS:
            raise InputError([Problem("optimizer.further", f"{further!r} is not one of {', '.join(FURTHER_WAYS)}.")])
        begun = replaced(job.settings, "optimizer.further", further) if further else job.settings
        new = self._free_name(job.settings)
        folder = make_folder(self._jobs.host.paths.data, new)
        if step is None and job.record.picked in saved_states.kept_states(RunFolder(job.folder)):
            step = job.record.picked
        try:
            with run_lock(folder):  # until it is listed, so that nobody tidies it away
                settings, folder = prepare_further(self._jobs.host, begun, job.folder, step, steps, new, folder)
                return self._jobs.submit(settings, folder)
        except BaseException:  # what was refused leaves no folder
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _check_named(settings: Settings) -> None:
    """
    Raises:
        InputError: the results' common name is empty.
    """
    if not settings.name.strip():
        raise InputError([Problem("name", "is empty. Give the result a name, for example my-cat.")])
