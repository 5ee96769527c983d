"""Comparison grids: results beside the base and beside one another, on the same prompts and seeds, made by the host."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_finetune.app.results import choices
from lib_finetune.assembly.caption_templates import caption_template
from lib_finetune.data.captions import template_caption
from lib_finetune.errors import InputError, PictureInterruptedError, Problem
from lib_finetune.export.clip_skip import clip_skip_of
from lib_finetune.export.picture import grid, write_png
from lib_finetune.files import safe_name
from lib_finetune.ports.pictures import HostPictures, PictureRequest
from lib_finetune.text.extra_networks import without_networks

if TYPE_CHECKING:
    from PIL import Image

    from lib_finetune.config.settings import Settings
    from lib_finetune.jobs.background_task import BackgroundTask
    from lib_finetune.jobs.job import Job
    from lib_finetune.jobs.queue import Jobs


_SEEDS = (1, 2)


@dataclass(frozen=True)
class Column:
    """A result at a weight, or the base.

    Attributes:
        label: above the images.
        files: kind → file; none for the base.
        word: what calls the subject where an embedding does ("zxq-cat"), else "" for the trigger word of the prompts.
        weight: of a LoRA.
        clip_skip: that it was trained with; None: as the host is set.
    """

    label: str
    files: Mapping[str, Path]
    word: str = ""
    weight: float = 1.0
    clip_skip: int | None = None


@dataclass(frozen=True)
class Row:
    """A prompt as it is written for the trigger word, and its seed."""

    prompt: str
    seed: int


@dataclass(frozen=True)
class Look:
    """How the images are made: side in px, sampling steps, guidance."""

    side: int = 512
    steps: int = 20
    guidance: float = 7.0


def columns_of(settings: Settings, label: str, files: Mapping[str, Path], weights: Sequence[float]) -> list[Column]:
    """A result's columns: one for each weight where it has one."""
    word = files["embedding"].stem if "embedding" in files else settings.name if settings.method == "pivotal_tuning" else ""
    clip_skip = trained_clip_skip(settings, files)
    if "lora" not in files:
        return [Column(label, files, word, clip_skip=clip_skip)]
    return [Column(f"{label} × {weight:g}", files, word, weight, clip_skip) for weight in weights]


def trained_clip_skip(settings: Settings, files: Mapping[str, Path]) -> int | None:
    """The clip skip that files were trained with: the settings', or what the file itself tells, since the host may be set anew by now."""
    return settings.training.clip_skip or clip_skip_of(files.values())


def prompts_of(settings: Settings, prompts: Sequence[str]) -> list[str]:
    """The prompts with trigger and class word filled in, without extra networks, for those would change every column; without any, the
    caption template's."""
    lines = [prompt for prompt in (without_networks(line.strip())[0] for line in prompts) if prompt]
    words = settings.data.trigger, settings.data.class_word
    return [without_networks(template_caption(prompt, *words))[0] for prompt in lines or [caption_template(settings)]]


def request(column: Column, row: Row, look: Look, trigger: str) -> PictureRequest:
    """What the host is asked for.

    Args:
        trigger: the word in the row's prompt that a column's own word takes the place of.
    """
    prompt = row.prompt
    if column.word and column.word not in prompt:
        with_word = re.sub(rf"(?<!\w){re.escape(trigger)}(?!\w)", lambda _: column.word, prompt) if trigger else prompt
        prompt = with_word if column.word in with_word else f"{column.word}, {prompt}"
    return PictureRequest(
        prompt,
        loras=((column.files["lora"], column.weight),) if "lora" in column.files else (),
        embeddings=(column.files["embedding"],) if "embedding" in column.files else (),
        checkpoint=column.files.get("checkpoint"),
        width_px=look.side,
        height_px=look.side,
        steps=look.steps,
        guidance=look.guidance,
        seed=row.seed,
        clip_skip=column.clip_skip,
    )


def make(
    pictures: HostPictures,
    columns: Sequence[Column],
    rows: Sequence[Row],
    look: Look,
    trigger: str,
    on_picture: Callable[[int, int], None],
    stop_asked: Callable[[], bool],
) -> Image.Image | None:
    """The sheet, a row for each prompt; None when it was stopped.

    Column by column, so that a checkpoint is read once for all of its images where the host keeps it.

    Raises:
        FinetuneError: the host could not make an image.
    """
    columns_of_images: list[list[Image.Image]] = []
    for column in columns:
        images = []
        for row in rows:
            if stop_asked():
                return None
            try:
                images.append(pictures.make(dataclasses.replace(request(column, row, look, trigger), interrupt_asked=stop_asked)))
            except PictureInterruptedError:
                if not stop_asked():
                    raise
                return None
            on_picture(sum(map(len, columns_of_images)) + len(images), len(columns) * len(rows))
        columns_of_images.append(images)
    return grid(
        list(zip(*columns_of_images, strict=True)),
        [column.label for column in columns],
        [f"{row.prompt} · seed {row.seed}" for row in rows],
    )


class ComparisonGrids:
    """Grids of one host's jobs, made as background tasks and kept in Finetune's folder."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._host = jobs.host

    def of_job(self, name: str, prompts: Sequence[str], weights: Sequence[float]) -> BackgroundTask:
        """A grid of the files of a job at several weights, beside the base.

        Raises:
            InputError: the job made no file, or a weight cannot be.
        """
        job = self._jobs.known.find(name)
        files_by_step = choices(job)
        if not files_by_step:
            raise InputError([Problem("id", f"{job.settings.name} has no file to show.")])
        if not weights or not all(0 < weight <= 2 for weight in weights):
            raise InputError([Problem("weights", f"{weights} are not weights above 0, at most 2. Write for example 0.6, 0.8, 1.")])
        columns: list[Column] = []
        for step, files in files_by_step.items():
            columns += columns_of(job.settings, f"step {step}", files, weights)
        columns = [_base_of(columns), *columns]
        return self._task(name, columns, job.settings, prompts)

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
            columns += columns_of(job.settings, f"{job.settings.name} · {_figures(job)}", final, (job.settings.preview.weight,))
        columns = [_base_of(columns), *columns]
        return self._task(group, columns, jobs[0].settings, prompts)

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
        return self._task(f"word-{trigger}", [Column("the loaded model", {}, clip_skip=settings.training.clip_skip)], settings, prompts)

    def names(self) -> list[str]:
        """File names of the grids that were made, newest first."""
        folder = self._host.paths.data / "sheets"
        return sorted((path.name for path in folder.glob("*.png")), reverse=True) if folder.is_dir() else []

    def delete(self, name: str) -> None:
        """Delete a grid.

        Raises:
            InputError: there is none of this name.
        """
        if name not in self.names():
            raise InputError([Problem("grid", f"There is no comparison grid {name!r}.")])
        (self._host.paths.data / "sheets" / name).unlink(missing_ok=True)

    def compare_when_group_has_ended(self, job: Job) -> None:
        """Make the grid of a group of jobs once the last of them has ended; a listener of the queue."""
        group = [other for other in self._jobs.known.all() if job.record.group and other.record.group == job.record.group]
        if len([other for other in group if other.record.files]) > 1 and all(other.ended for other in group):
            self.of_group(job.record.group)

    def _task(self, about: str, columns: list[Column], settings: Settings, prompts: Sequence[str]) -> BackgroundTask:
        rows = [Row(prompt, seed) for prompt in prompts_of(settings, prompts) for seed in _SEEDS]
        tags = [tag for prompt in prompts for tag in without_networks(prompt)[1]]
        look = Look(min(512, settings.data.resolution), settings.preview.steps)

        def work(task: BackgroundTask) -> dict[str, Any]:
            image = make(self._host.pictures, columns, rows, look, settings.data.trigger, task.progress, task.stop_asked)
            if tags:
                task.message = f"Left out of the prompts: {', '.join(dict.fromkeys(tags))}."
            if image is None:
                return {}
            name = f"{time.strftime('%Y%m%d-%H%M%S')}-{safe_name(about)}.png"
            write_png(self._host.paths.data / "sheets" / name, image)
            return {"sheet": name}

        return self._jobs.tasks.add("sheet", work, about)


def _base_of(columns: Sequence[Column]) -> Column:
    """The base, read as the first of the results beside it is."""
    return Column("base", {}, clip_skip=columns[0].clip_skip)


def _figures(job: Job) -> str:
    files = [Path(path) for path in job.record.files.values()]
    size = sum(path.stat().st_size for path in files if path.is_file())
    amount = f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} KB"
    peak = f", {job.record.peak / 2**30:.1f} GiB" if job.record.peak else ""
    seconds = job.record.ended - job.record.started
    took = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
    return f"{amount}, {took}{peak}"
