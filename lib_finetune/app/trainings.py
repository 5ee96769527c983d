"""The desk: everything that tab and API can ask for, in settings and plain values."""

from __future__ import annotations

import dataclasses
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_finetune import __version__
from lib_finetune.access import Folders
from lib_finetune.app import comparison_grid, feedback, results, storage
from lib_finetune.app.datasets import Album
from lib_finetune.app.method_advisor import Counsel
from lib_finetune.app.presets import Shelf
from lib_finetune.config import codec
from lib_finetune.config.fields import value_at
from lib_finetune.config.settings import Settings
from lib_finetune.errors import FinetuneError, InputError, Problem
from lib_finetune.estimates.method_choice import WISHES
from lib_finetune.export.picture import write_png
from lib_finetune.files import open_in_file_manager, safe_name
from lib_finetune.jobs import record as records
from lib_finetune.jobs.background_task import Errand
from lib_finetune.jobs.job import ACTIVE, Job
from lib_finetune.jobs.queue import Jobs, new_folder, unfinished
from lib_finetune.ports.host import Host
from lib_finetune.runs import saved_states
from lib_finetune.runs.continuation import further
from lib_finetune.runs.runner import settings_of

if TYPE_CHECKING:
    from PIL.Image import Image

PATHS = ("data.images", "data.class_images", "embedding.init", "embedding.template", "network.start")
"""Settings that name a place on this machine."""
_FOLDERS = PATHS[:2]
"""Those that name nothing else; the others may be words too."""
_COMPARED = {"lora": "lora", "dreambooth": "dreambooth", "textual_inversion": "ti"}
_WEIGHTS = (0.6, 0.8, 1.0)
_SHEET_SEEDS = (1, 2)
_USUAL = 10
"""Pictures, where none are named yet."""


class Desk:
    """One host's jobs and what can be done with them. Any thread."""

    def __init__(self, jobs: Jobs, folders: Folders | None = None) -> None:
        """
        Args:
            folders: which ones requests may name.
        """
        self.jobs = jobs
        self.album = Album(jobs.host)
        self.shelf = Shelf(jobs.host.paths.data)
        self.counsel = Counsel(jobs.host)
        self.folders = folders or Folders()
        jobs.when_ended(self._compare_when_all_have_ended)

    @property
    def host(self) -> Host:
        """Whose jobs they are."""
        return self.jobs.host

    # -- settings --------------------------------------------------------------------------------------------------

    def settings(self, values: Mapping[str, Any]) -> Settings:
        """Settings from nested values, as in a settings file.

        Raises:
            InputError: unknown names, wrong types, folders that may not be named.
        """
        return self.allowed(codec.from_dict(values))

    def allowed(self, settings: Settings) -> Settings:
        """The same settings.

        Raises:
            InputError: they name folders that requests may not.
        """
        problems: list[Problem] = []
        for path in PATHS:
            text = str(value_at(settings, path))
            if path in _FOLDERS or _names_a_place(text):
                try:
                    self.folders.check(text, path)
                except InputError as error:
                    problems += error.problems
        if problems:
            raise InputError(problems)
        return settings

    def about(self) -> dict[str, Any]:
        """Version, checkpoint, device, memory, and why training cannot start, if so."""
        found: dict[str, Any] = {"version": __version__, "device": str(self.host.device), "memory": dataclasses.asdict(self.host.memory())}
        try:
            info = self.host.checkpoint()
            return {**found, "checkpoint": info.name, "vae": info.vae, "refusals": self.host.refusals()}
        except FinetuneError as error:
            return {**found, "checkpoint": None, "vae": None, "refusals": [str(error)]}

    def settings_in(self, path: str) -> tuple[Settings, list[str]]:
        """Settings of an exported file, or of a result's metadata; and what could not be restored, in words.

        Raises:
            InputError: the file may not be named, or holds none.
        """
        self.folders.check(path, "path")
        return self.shelf.from_file(Path(path), Settings())

    # -- before training -------------------------------------------------------------------------------------------

    def cards(self, settings: Settings, wish: str = "") -> dict[str, Any]:
        """See `Counsel.cards`; without pictures for as many as are usual.

        Raises:
            InputError: the folder cannot be read, or the wish is none.
        """
        if wish not in WISHES:
            raise InputError([Problem("wish", f"{wish!r} is none of: {', '.join(repr(one) for one in WISHES)}.")])
        if not settings.data.images.strip():
            return self.counsel.cards(settings, 0, _USUAL, wish)
        found = self.album.view(settings)
        return self.counsel.cards(settings, len(found["pictures"]), found["views"], wish)

    def forecast(self, settings: Settings) -> Errand:
        """Try two steps of a training, when no other runs.

        Raises:
            InputError: a job runs.
        """
        if reason := self._busy():
            raise InputError(reason)
        return self.jobs.errand("forecast", lambda errand: self.counsel.try_out(settings, self._busy, errand))

    def captioners(self) -> list[str]:
        """What can write captions here."""
        return list(self.host.captioners())

    def write_captions(self, settings: Settings, captioner: str) -> Errand:
        """Write a caption for each picture that has none, when no training runs.

        Raises:
            InputError: there is no such captioner, the folder will not do, or every picture has its caption.
        """
        if captioner not in self.captioners():
            known = ", ".join(self.captioners())
            raise InputError(
                [
                    Problem(
                        "captioner", f"There is no {captioner!r}: {known}." if known else "Captions can be written inside the WebUI only."
                    )
                ]
            )
        if all(picture["caption_file"] for picture in self.album.view(settings)["pictures"]):
            raise InputError([Problem("data.images", "Every picture has its caption already. Delete those that are to be written anew.")])

        def work(errand: Errand) -> dict[str, Any]:
            def say(image: Image) -> str:
                return self.host.describe(captioner, image)

            return {"captions": self.album.write_captions(settings, say, errand.progress, errand.stop_asked)}

        return self.jobs.errand("captions", work, settings.data.images)

    def _busy(self) -> str | None:
        running = [job for job in self.jobs.all() if job.state in ACTIVE]
        return (
            f"{running[0].settings.name} is being trained; a forecast would take its memory. Ask again when it has ended."
            if running
            else None
        )

    # -- jobs ------------------------------------------------------------------------------------------------------

    def job(self, job: Job) -> dict[str, Any]:
        """A job as plain values: what it is doing, its record, and what it made."""
        record = dataclasses.asdict(job.record)
        kept = ("group", "created", "started", "ended", "steps", "peak", "picked", "files")
        made = {str(step): {kind: str(path) for kind, path in files.items()} for step, files in results.choices(job).items()}
        unended = job.state == "interrupted" and self._can_go_on(job)
        shown = {**job.status(), **{name: record[name] for name in kept}, "choices": made, "call": results.call(job)}
        return {**shown, "method": job.settings.method, "can_go_on": unended or (job.state == "stopped" and self._can_go_on(job))}

    def kept_states(self, name: str) -> list[int]:
        """Steps of a job whose states more steps can be trained from.

        Raises:
            InputError: there is no such job.
        """
        return list(saved_states.kept(self.jobs.find(name).folder))

    def overview(self) -> dict[str, Any]:
        """All jobs, those that wait in their order, errands, and whether the queue is held."""
        return {
            "jobs": [self.job(job) for job in self.jobs.all()],
            "queue": [job.folder.name for job in self.jobs.queue()],
            "held": self.jobs.held,
            "errands": [errand.status() for errand in self.jobs.errands()],
        }

    def train(self, settings: Settings, editing: str = "") -> tuple[Job, bool]:
        """Queue a training; a job that waits, and that is being edited or has this name, gets these settings instead. Second: whether one did.

        Args:
            editing: the job whose settings the person has taken into the form to change them.

        Raises:
            InputError: everything that is wrong; nothing was queued or changed.
        """
        queue = self.jobs.queue()
        waiting = [job for job in queue if job.folder.name == editing] or [job for job in queue if job.settings.name == settings.name]
        if waiting:
            self.jobs.edit(waiting[0].folder.name, settings)
            return waiting[0], True
        job = self.jobs.submit(settings)
        self.shelf.keep_last(settings)
        return job, False

    def again(self, job: Job, *, edit: bool) -> Settings:
        """A job's settings for the form: under its own name to edit a job that waits, else under a free one."""
        settings = job.settings
        return settings if edit else dataclasses.replace(settings, name=self.jobs.free_name(settings.name, settings.method))

    def clone(self, name: str, changes: Mapping[str, str]) -> Job:
        """A new job with the settings of another and some of them changed, by dotted path and text.

        Raises:
            InputError: no such job, wrong changes, or the settings will not do.
        """
        settings = codec.with_values(self.jobs.find(name).settings, changes.items())
        if "name" not in changes:
            settings = dataclasses.replace(settings, name=self.jobs.free_name(settings.name, settings.method))
        return self.jobs.submit(self.allowed(settings))

    def sweep(self, settings: Settings, path: str, values: Sequence[str]) -> list[Job]:
        """A job for each value of one setting, to be compared.

        Raises:
            InputError: no values, an unknown setting, or one of the jobs will not do; nothing was queued.
        """
        if not [value for value in values if value.strip()]:
            raise InputError([Problem(path, "No values were given. Write some, separated by commas: 8, 16, 32.")])
        self._named(settings)
        leaf = path.rpartition(".")[2].replace("_", "-")
        made = []
        for value in (value.strip() for value in values if value.strip()):
            with_value = codec.with_values(settings, [(path, value)])
            made.append(dataclasses.replace(with_value, name=f"{settings.name}-{leaf}-{safe_name(value)}"))
        return self._together(made)

    def compare(self, settings: Settings) -> list[Job]:
        """The same pictures through LoRA, DreamBooth and Textual Inversion, to be compared.

        Raises:
            InputError: one of the jobs will not do; nothing was queued.
        """
        self._named(settings)
        made = [dataclasses.replace(settings, method=method, name=f"{settings.name}-{end}") for method, end in _COMPARED.items()]
        return self._together(made)

    @staticmethod
    def _named(settings: Settings) -> None:
        """
        Raises:
            InputError: the results' common name is empty.
        """
        if not settings.name.strip():
            raise InputError([Problem("name", "is empty. Give the result a name, for example my-cat.")])

    def _together(self, made: Sequence[Settings]) -> list[Job]:
        problems: list[Problem] = []
        names = Counter(settings.name for settings in made)
        busy = {job.settings.name for job in self.jobs.all() if not job.ended}
        problems += [
            Problem("name", f"{name} would be made {count} times. Give each value once.") for name, count in names.items() if count > 1
        ]
        problems += [Problem("name", f"{name} is running or waits already. Choose another name.") for name in names if name in busy]
        for settings in made:
            try:
                self.jobs.check(self.allowed(settings))
            except InputError as error:
                problems += [Problem(found.field, f"{found.message} ({settings.name})") for found in error.problems]
        if problems:
            raise InputError(list(dict.fromkeys(problems)))
        group = uuid.uuid4().hex[:8]
        return [self.jobs.submit(settings, group=group) for settings in made]

    def unfinished(self) -> list[str]:
        """Names of runs that can go on and that nobody works on."""
        busy = {job.folder for job in self.jobs.all() if not job.ended}
        return [folder.name for folder in unfinished(self.host) if folder not in busy]

    def go_on(self, name: str) -> Job:
        """Let an unfinished run go on.

        Raises:
            InputError: there is none of this name.
        """
        if name not in self.unfinished():
            raise InputError([Problem("id", f"There is no unfinished run {name!r}." if name else "Choose an unfinished run first.")])
        folder = self.host.paths.data / "runs" / name
        settings = settings_of(folder)
        assert settings is not None  # unfinished() lists those whose settings can be read
        before = records.read(folder)
        return self.jobs.submit(settings, folder, before.group if before else "")

    @staticmethod
    def _can_go_on(job: Job) -> bool:
        return (job.folder / saved_states.STATE).is_file()

    def more(self, name: str, steps: int, step: int | None = None) -> Job:
        """Train a job's result for more steps, from a state that was kept: that of ``step``, else of the point that was picked, else the last.

        Raises:
            InputError: no such job, or no state was kept; then from its file alone, what to set is said.
        """
        job = self.jobs.find(name)
        new = self.jobs.free_name(job.settings.name, job.settings.method)
        folder = new_folder(self.host, new)
        if step is None and job.record.picked in saved_states.kept(job.folder):
            step = job.record.picked
        settings, folder = further(self.host, job.settings, job.folder, step, steps, new, folder)
        return self.jobs.submit(settings, folder)

    # -- results ---------------------------------------------------------------------------------------------------

    def verdict(self, name: str, said: str) -> feedback.Change:
        """One change that answers "too weak" or "overdone".

        Raises:
            InputError: no such job or verdict.
        """
        job = self.jobs.find(name)
        return feedback.change(said, job.settings, job.losses, sorted(results.choices(job)), job.status().get("validation", ()))

    def pick(self, name: str, step: int, *, delete_others: bool) -> dict[str, str]:
        """See `results.pick`; the host's lists are refreshed."""
        job = self.jobs.find(name)
        return {kind: str(path) for kind, path in results.pick(job, step, self.host, delete_others=delete_others).items()}

    def result_sheet(self, name: str, prompts: Sequence[str], weights: Sequence[float] = _WEIGHTS) -> Errand:
        """A sheet of the files of a job at several weights, beside the base.

        Raises:
            InputError: the job made no file, or a weight cannot be.
        """
        job = self.jobs.find(name)
        made = results.choices(job)
        if not made:
            raise InputError([Problem("id", f"{job.settings.name} has no file to show.")])
        if not weights or not all(0 < weight <= 2 for weight in weights):
            raise InputError([Problem("weights", f"{weights} are not weights above 0, at most 2. Write for example 0.6, 0.8, 1.")])
        columns = [comparison_grid.Column("base", {})]
        for step, files in made.items():
            columns += comparison_grid.columns_of(job.settings, f"step {step}", files, weights)
        return self._sheet_errand(name, columns, [(job.settings, prompts)])

    def group_sheet(self, group: str, prompts: Sequence[str] = ()) -> Errand:
        """A sheet of the results of jobs that belong together, with size, time and memory of each.

        Raises:
            InputError: none of them made a file.
        """
        jobs = [job for job in self.jobs.all() if job.record.group == group and results.choices(job)]
        if not jobs:
            raise InputError([Problem("group", f"No job of {group!r} has a file to show.")])
        columns = [comparison_grid.Column("base", {})]
        for job in jobs:
            final = {kind: Path(path) for kind, path in job.record.files.items()}
            columns += comparison_grid.columns_of(
                job.settings, f"{job.settings.name} · {_figures(job)}", final, (job.settings.preview.weight,)
            )
        return self._sheet_errand(group, columns, [(jobs[0].settings, prompts)])

    def errand(self, name: str) -> Errand:
        """A sheet or probe of this session.

        Raises:
            InputError: there is none of this id.
        """
        for errand in self.jobs.errands():
            if errand.id == name:
                return errand
        raise InputError([Problem("id", f"There is no errand {name!r}.")])

    def _sheet_errand(self, about: str, columns: list[comparison_grid.Column], asked: list[tuple[Settings, Sequence[str]]]) -> Errand:
        settings, prompts = asked[0]
        rows = [comparison_grid.Row(prompt, seed) for prompt in comparison_grid.prompts_of(settings, prompts) for seed in _SHEET_SEEDS]
        look = comparison_grid.Look(min(512, settings.data.resolution), settings.preview.steps)

        def work(errand: Errand) -> dict[str, Any]:
            image = comparison_grid.make(self.host, columns, rows, look, settings.data.trigger, errand.progress, errand.stop_asked)
            if image is None:
                return {}
            name = f"{time.strftime('%Y%m%d-%H%M%S')}-{safe_name(about)}.png"
            write_png(self.host.paths.data / "sheets" / name, image)
            return {"sheet": name}

        return self.jobs.errand("sheet", work, about)

    def _compare_when_all_have_ended(self, job: Job) -> None:
        group = [other for other in self.jobs.all() if job.record.group and other.record.group == job.record.group]
        if len([other for other in group if other.record.files]) > 1 and all(other.ended for other in group):
            self.group_sheet(job.record.group)

    def sheets(self) -> list[str]:
        """File names of the sheets that were made, newest first."""
        folder = self.host.paths.data / "sheets"
        return sorted((path.name for path in folder.glob("*.png")), reverse=True) if folder.is_dir() else []

    def draw_word(self, settings: Settings) -> Errand:
        """A sheet that shows what the loaded model takes the trigger word for, alone and beside the class word.

        Raises:
            InputError: there is no trigger word.
        """
        trigger, class_word = settings.data.trigger.strip(), settings.data.class_word.strip()
        if not trigger:
            raise InputError(
                [Problem("data.trigger", "is empty, so there is no word to draw. Write one; a rare one such as zxq works best.")]
            )
        prompts = [trigger, *([f"{trigger} {class_word}", class_word] if class_word else [])]
        return self._sheet_errand(f"word-{trigger}", [comparison_grid.Column("the loaded model", {})], [(settings, prompts)])

    def select(self, name: str) -> Errand:
        """Load the checkpoint that a job made, before the next job begins.

        Raises:
            InputError: the job made none.
        """
        job = self.jobs.find(name)
        path = job.record.files.get("checkpoint")
        if not path or not Path(path).is_file():
            raise InputError([Problem("id", f"{job.settings.name} has no checkpoint to load.")])

        def work(_: Errand) -> dict[str, Any]:
            now = self.host.checkpoint()
            self.host.load(dataclasses.replace(now, name=Path(path).stem, path=Path(path), sha256=None, short_hash=None))
            return {}

        return self.jobs.errand("select", work, name)

    def open_folder(self, name: str) -> None:
        """Show the folder of a job's result on the screen of this machine.

        Raises:
            InputError: the job made no file, or the page is used from other machines.
        """
        job = self.jobs.find(name)
        if self.folders.allowed is not None:
            raise InputError(f"The folder would open on the WebUI's machine, not on yours. It is {job.file and job.file.parent}.")
        if job.file is None:
            raise InputError([Problem("id", f"{job.settings.name} has no file.")])
        open_in_file_manager(job.file.parent)

    # -- pictures and storage --------------------------------------------------------------------------------------

    def storage(self) -> list[dict[str, Any]]:
        """Parts of Finetune's folder with their sizes in bytes."""
        return [dataclasses.asdict(part) for part in storage.parts(self.host.paths.data)]

    def empty(self, part: str) -> int:
        """Empty a part; what jobs that have not ended need stays. Returns the bytes freed.

        Raises:
            InputError: no such part, or a job needs it now.
        """
        jobs = self.jobs.all()
        if part in ("cache", "classes", "datasets") and any(not job.ended for job in jobs):
            raise InputError([Problem("part", f"A job runs or waits, and may need the {part}. Empty it when all have ended.")])
        busy = [job for job in jobs if not job.ended]
        freed = storage.empty(self.host.paths.data, part, {job.folder for job in busy})
        if part == "runs":
            for job in jobs:
                if job not in busy:
                    self.jobs.forget(job.folder.name)
        return freed


def _names_a_place(text: str) -> bool:
    """Whether a text means a file or folder here, rather than words."""
    try:
        return text.startswith(("~", ".")) or "/" in text or "\\" in text or Path(text).exists()
    except (OSError, ValueError):
        return False


def _figures(job: Job) -> str:
    files = [Path(path) for path in job.record.files.values()]
    size = sum(path.stat().st_size for path in files if path.is_file())
    amount = f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} KB"
    peak = f", {job.record.peak / 2**30:.1f} GiB" if job.record.peak else ""
    seconds = job.record.ended - job.record.started
    took = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
    return f"{amount}, {took}{peak}"


_DESKS: dict[str, Desk] = {}
_ONE_AT_A_TIME = threading.Lock()


def desk(key: str, make_host: Callable[[], Host], folders: Callable[[], Folders]) -> Desk:
    """The one desk of this process for ``key``: packages survive the WebUI's Reload UI, so jobs are found again after it."""
    with _ONE_AT_A_TIME:
        if key not in _DESKS:
            _DESKS[key] = Desk(Jobs(make_host()), folders())
        return _DESKS[key]
