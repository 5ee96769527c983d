"""Comparison grids: which results stand beside one another, made as background tasks and kept with their settings."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_finetune.app import grid_file
from lib_finetune.app.grid_file import GridSettings
from lib_finetune.app.grid_images import Column, Look, Row, columns_of, make, prompts_of, request, templates_of
from lib_finetune.app.result_figures import cost_of, measured_at
from lib_finetune.app.results import choices
from lib_finetune.errors import InputError, Problem
from lib_finetune.files import safe_name
from lib_finetune.text.extra_networks import without_networks

if TYPE_CHECKING:
    from lib_finetune.config.settings import Settings
    from lib_finetune.jobs.background_task import BackgroundTask
    from lib_finetune.jobs.job import Job
    from lib_finetune.jobs.queue import Jobs

SEEDS = (1, 2)
"""Where none are named."""
MOST_IMAGES = 200
"""In one grid: all of them are in memory until it is written."""
_MOST_WEIGHT, _MOST_SEED = 2.0, 2**31 - 1
_RUNS = 40
"""So many are offered, the newest first."""


class ComparisonGrids:
    """Grids of one host's jobs, in Finetune's folder. Any thread."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._host = jobs.host
        self._lock = threading.Lock()
        self._read: dict[str, tuple[int, dict[str, Any]]] = {}

    def offered(self) -> list[dict[str, Any]]:
        """Runs that have files, newest first: "job" (id), "name", "method", "steps" (of its files), "result" (step of its result, or 0)."""
        runs: list[dict[str, Any]] = []
        for job in reversed(self._jobs.known.all()):
            steps = list(choices(job))
            if steps and len(runs) < _RUNS:
                result = job.record.steps if job.record.files else 0
                name, method = job.settings.name, job.settings.method
                runs.append({"job": job.folder.name, "name": name, "method": method, "steps": steps, "result": result})
        return runs

    def of_choices(
        self, chosen: Sequence[str], weights: Sequence[float], prompts: Sequence[str], seeds: Sequence[int] = (), *, base: bool = True
    ) -> BackgroundTask:
        """A grid of results and snapshots × weights × prompts × seeds.

        Args:
            chosen: "id of a job:step" of each result or snapshot.
            weights: of LoRAs.
            prompts: lines with places for the words of each training; without any, the caption template of the first.
            seeds: without any, `SEEDS`.
            base: whether the loaded model without any of them stands in front.

        Raises:
            InputError: everything that is wrong, by field.
        """
        problems = [*_wrong_weights(weights), *_wrong_seeds(seeds)]
        results: list[tuple[Job, int, Mapping[str, Path]]] = []
        for token in dict.fromkeys(chosen):
            try:
                results.append(self._result(token))
            except InputError as error:
                problems += [Problem("chosen", problem.message) for problem in error.problems]
        if not chosen:
            problems.append(Problem("chosen", "Choose at least one result or snapshot."))
        if problems:
            raise InputError(problems)
        columns: list[Column] = []
        for job, step, files in results:
            words = job.settings.data.trigger, job.settings.data.class_word
            own = columns_of(job.settings, _label(job, step), files, weights, measured_at(job, step))
            columns += [dataclasses.replace(column, words=words) for column in own]
        if base:
            columns = [_base_of(columns), *columns]
        first = results[0][0].settings
        one_training = len({column.words for column in columns}) == 1
        lines = prompts_of(first, prompts) if one_training else templates_of(first, prompts)
        rows = [Row(line, seed) for line in lines for seed in seeds or SEEDS]
        if len(columns) * len(rows) > MOST_IMAGES:
            message = f"{len(columns)} columns × {len(rows)} rows are {len(columns) * len(rows)} images; a grid has at most {MOST_IMAGES}."
            raise InputError([Problem("chosen", f"{message} Choose fewer results, weights, prompts or seeds.")])
        look = Look(min(512, max(job.settings.data.resolution for job, _, _ in results)), first.preview.steps)
        about = " ".join(dict.fromkeys(job.settings.name for job, _, _ in results))[:60]
        asked = GridSettings(tuple(chosen), tuple(weights), tuple(seeds or SEEDS), _written(prompts), base)
        return self._task(about, columns, rows, look, asked, prompts)

    def of_job(self, name: str, prompts: Sequence[str], weights: Sequence[float]) -> BackgroundTask:
        """A grid of the files of a job at several weights, beside the base.

        Raises:
            InputError: the job made no file, or a weight cannot be.
        """
        job = self._jobs.known.find(name)
        steps = list(choices(job))
        if not steps:
            raise InputError([Problem("id", f"{job.settings.name} has no file to show.")])
        return self.of_choices([f"{job.folder.name}:{step}" for step in steps], weights, prompts)

    def of_group(self, group: str, prompts: Sequence[str] = ()) -> BackgroundTask:
        """A grid of the results of jobs that belong together, with size, time and memory of each.

        Raises:
            InputError: none of them made a file.
        """
        jobs = [job for job in self._jobs.known.all() if job.record.group == group and choices(job)]
        if not jobs:
            raise InputError([Problem("group", f"No job of {group!r} has a file to show.")])
        columns: list[Column] = []
        for job in jobs:
            final = {kind: Path(path) for kind, path in job.record.files.items()}
            figures = (cost_of(job), *measured_at(job, job.record.steps))
            columns += columns_of(job.settings, job.settings.name, final, (job.settings.preview.weight,), figures)
        columns = [_base_of(columns), *columns]
        first = jobs[0].settings
        rows = [Row(prompt, seed) for prompt in prompts_of(first, prompts) for seed in SEEDS]
        chosen = tuple(f"{job.folder.name}:{job.record.steps}" for job in jobs if job.record.files)
        asked = GridSettings(chosen, (first.preview.weight,), SEEDS, _written(prompts))
        return self._task(group, columns, rows, _look(first), asked, prompts, first.data.trigger)

    def of_trigger_word(self, settings: Settings) -> BackgroundTask:
        """A grid that shows what the loaded model takes the trigger word for, alone and beside the class word.

        Raises:
            InputError: there is no trigger word.
        """
        trigger, class_word = settings.data.trigger.strip(), settings.data.class_word.strip()
        if not trigger:
            message = "is empty, so there is no word to draw. Write one; a rare one such as zxq works best."
            raise InputError([Problem("data.trigger", message)])
        prompts = [trigger, *([f"{trigger} {class_word}", class_word] if class_word else [])]
        rows = [Row(prompt, seed) for prompt in prompts_of(settings, prompts) for seed in SEEDS]
        column = Column("the loaded model", {}, clip_skip=settings.training.clip_skip)
        return self._task(f"word-{trigger}", [column], rows, _look(settings), GridSettings(seeds=SEEDS), prompts)

    def names(self) -> list[str]:
        """File names of the grids that were made, newest first."""
        return sorted((path.name for path in self._folder.glob("*.png")), reverse=True) if self._folder.is_dir() else []

    def settings(self, name: str) -> dict[str, Any]:
        """`GridSettings` of a grid as plain values; empty where its file has none.

        Raises:
            InputError: there is none of this name.
        """
        path = self._folder / self._known(name)
        try:
            changed = path.stat().st_mtime_ns
        except OSError:  # deleted meanwhile
            return {}
        with self._lock:
            known = self._read.get(name)
        if known is None or known[0] != changed:
            known = (changed, grid_file.settings_in(path))
            with self._lock:
                self._read[name] = known
        return known[1]

    def delete(self, name: str) -> None:
        """Delete a grid.

        Raises:
            InputError: there is none of this name.
        """
        (self._folder / self._known(name)).unlink(missing_ok=True)

    def compare_when_group_has_ended(self, job: Job) -> None:
        """Make the grid of a group of jobs once the last of them has ended; a listener of the queue."""
        group = [other for other in self._jobs.known.all() if job.record.group and other.record.group == job.record.group]
        if len([other for other in group if other.record.files]) > 1 and all(other.ended for other in group):
            self.of_group(job.record.group)

    @property
    def _folder(self) -> Path:
        return self._host.paths.data / "sheets"

    def _known(self, name: str) -> str:
        if name not in self.names():
            raise InputError([Problem("grid", f"There is no comparison grid {name!r}.")])
        return name

    def _result(self, token: str) -> tuple[Job, int, Mapping[str, Path]]:
        name, _, step = token.rpartition(":")
        job = self._jobs.known.find_whole(name)
        files = choices(job).get(int(step)) if step.isdecimal() else None
        if files is None:
            raise InputError([Problem("chosen", f"{job.settings.name} has no file of step {step}.")])
        return job, int(step), files

    def _task(
        self,
        about: str,
        columns: Sequence[Column],
        rows: Sequence[Row],
        look: Look,
        asked: GridSettings,
        prompts: Sequence[str],
        trigger: str = "",
    ) -> BackgroundTask:
        tags = [tag for prompt in prompts for tag in without_networks(prompt)[1]]
        settings = dataclasses.replace(
            asked, columns=tuple((column.label, column.figures) for column in columns), rows=tuple((row.prompt, row.seed) for row in rows)
        )

        def work(task: BackgroundTask) -> dict[str, Any]:
            model = self._host.checkpoint().name
            image = make(self._host.pictures, columns, rows, look, trigger, task.progress, task.stop_asked)
            if tags:
                task.message = f"Left out of the prompts: {', '.join(dict.fromkeys(tags))}."
            if image is None:
                return {}
            name = f"{time.strftime('%Y%m%d-%H%M%S')}-{safe_name(about)}.png"
            first = request(columns[0], rows[0], look, trigger).prompt
            grid_file.write(self._folder / name, image, settings, grid_file.parameters_of(columns, rows, look, first, model))
            return {"sheet": name}

        return self._jobs.tasks.add("sheet", work, about)


def _label(job: Job, step: int) -> str:
    """The name alone for the result, with its step for a snapshot."""
    is_result = job.record.files and step == job.record.steps
    return job.settings.name if is_result else f"{job.settings.name}, step {step}"


def _look(settings: Settings) -> Look:
    return Look(min(512, settings.data.resolution), settings.preview.steps)


def _base_of(columns: Sequence[Column]) -> Column:
    """The base, read as the first of the results beside it is."""
    return Column("base", {}, clip_skip=columns[0].clip_skip, words=columns[0].words)


def _written(prompts: Sequence[str]) -> tuple[str, ...]:
    return tuple(line for line in map(str.strip, prompts) if line)


def _wrong_weights(weights: Sequence[float]) -> list[Problem]:
    if weights and all(0 < weight <= _MOST_WEIGHT for weight in weights):
        return []
    shown = ", ".join(f"{weight:g}" for weight in weights) or "none"
    return [Problem("weights", f"Weights are above 0, at most 2; these are {shown}. Write for example 0.6, 0.8, 1.")]


def _wrong_seeds(seeds: Sequence[int]) -> list[Problem]:
    wrong = [seed for seed in seeds if not 0 <= seed <= _MOST_SEED]
    return [Problem("seeds", f"{wrong[0]} is not a seed: those are whole numbers from 0 to {_MOST_SEED}.")] if wrong else []
