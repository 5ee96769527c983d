"""One run, from settings to a file that the WebUI loads: check, bind, cache, train, save, verify, preview, give back."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from lib_finetune.assembly import automatic_settings, builder, dataset, initial_weights, provenance
from lib_finetune.assembly.artifact_kinds import product_of
from lib_finetune.config import codec
from lib_finetune.config.fields import replaced, value_at
from lib_finetune.config.settings import Settings, keeps_states, teaches_word
from lib_finetune.config.validation import validate
from lib_finetune.data.fingerprint import fingerprint
from lib_finetune.data.scan import examined
from lib_finetune.errors import (
    CheckpointChangedError,
    DivergedError,
    FinetuneError,
    InputError,
    OutOfMemoryError,
    Problem,
    SaveError,
)
from lib_finetune.estimates import memory_plan, method_costs, speed_history
from lib_finetune.export import lora_file
from lib_finetune.files import write_atomically
from lib_finetune.model import checkpoint_reader
from lib_finetune.ports.checkpoint import CheckpointInfo
from lib_finetune.ports.events import ProgressSink, StepReport
from lib_finetune.ports.host import Host, Restoration
from lib_finetune.preflight import conflicts
from lib_finetune.runs import artifacts, saved_states, snapshots
from lib_finetune.runs.artifacts import Output
from lib_finetune.runs.class_images import ClassPictures
from lib_finetune.runs.previews import Previews
from lib_finetune.runs.schedule import Agenda
from lib_finetune.runs.snapshots import Points
from lib_finetune.training import state
from lib_finetune.training.model_swap import Exchange
from lib_finetune.training.optim.per_parameter import PerParameter
from lib_finetune.training.turns import Turns

_log = logging.getLogger(__name__)
STATE = saved_states.STATE
SETTINGS = "settings.json"
CHECKPOINT = "checkpoint.json"
LENT_CHECKPOINT = "preview.safetensors"
PAUSED = "paused"
_WAIT_S = 0.5
_PAUSE_S = 0.2


class Control(Protocol):
    """What the person wants of a running job; asked from the job's thread."""

    def stop_asked(self) -> bool:
        """End after this step."""

    def discard_asked(self) -> bool:
        """On stopping, write no file."""

    def load_asked(self) -> bool:
        """While waiting for a checkpoint: load it. Answers True once for each press."""

    def pause_asked(self) -> bool:
        """Rest after this step, with nothing of the host held, for as long as this answers True."""

    def preview_asked(self) -> bool:
        """Make a preview after this step. Answers True once for each press; asked once after each step."""

    def save_asked(self) -> bool:
        """Save the file after this step and keep it. Answers True once for each press; asked once after each step."""


@dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
        outcome: "done", "stopped" or "discarded".
        file: the result, or None.
        steps: steps that are in it.
        restoration: the host before and after.
        files: kind → each file of the result.
    """

    outcome: str
    file: Path | None
    steps: int
    restoration: Restoration
    files: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class _Way:
    """What a run shows and keeps while it is under way."""

    output: Output
    points: Points
    previews: Previews


_Made = TypeVar("_Made")


class StoppedWhileWaiting(FinetuneError):  # noqa: N818  not a fault: the person's wish
    """The person chose to stop while the run waited for its checkpoint."""


class Run:
    """Executes one run on a host, in the thread that calls it."""

    def __init__(self, settings: Settings, host: Host, folder: Path, sink: ProgressSink, control: Control) -> None:
        """
        Args:
            folder: of this run: settings, state, log. A state found there is continued.
        """
        self._given = initial_weights.spared(settings) if (folder / STATE).exists() else settings
        self._host = host
        self._folder = folder
        self._sink = sink
        self._control = control
        self._files: dict[str, Path] = {}
        self._info: CheckpointInfo | None = None
        self.restoration = Restoration()
        self.rescued: tuple[int, dict[str, Path]] | None = None
        """The step and the files that were written when the training failed, if any."""

    def execute(self) -> Result:
        """Run to the end.

        Raises:
            InputError: the settings, the pictures or the checkpoint will not do; nothing was started.
            FinetuneError: the run failed; the state of the last good step is kept in the run's folder.
        """
        found = self.check()
        info = self._info = self._checkpoint()
        tools = self._host.text_tools()
        formed = [*self._form(info, found), *([] if (self._folder / STATE).exists() else initial_weights.notes(self._given))]
        settings, notes = automatic_settings.resolved(self._given, found.views, tools.clip_skip)
        self._announce(settings, found, [*formed, *notes, *memory_plan.identifier_notes(settings, tools.tokenizer)])
        self._host.remember()
        try:
            outcome, file, steps = self._work(settings, found, info)
        finally:
            self._give_back()
        if file and settings.method == "dreambooth" and settings.tuning.select:
            try:
                self._host.load(CheckpointInfo(file.stem, file, None, None, info.vae, info.prediction))
            except FinetuneError as error:
                self._sink.say(f"{file.name} is ready, but the WebUI could not load it now: {error}")
        return Result(outcome, file, steps, self.restoration, self._files)

    # -- before the first step -------------------------------------------------------------------------------------

    def check(self) -> dataset.Dataset:
        """Everything that can be wrong is found here, together, before anything starts.

        Raises:
            InputError: with all problems.
        """
        problems: list[Problem] = []
        found: dataset.Dataset | None = None

        def collect(action: Callable[[], Any]) -> Any:
            try:
                return action()
            except InputError as error:
                problems.extend(error.problems)

        collect(lambda: validate(self._given))
        if self._given.data.images.strip():
            look = partial(examined, face=self._host.face) if self._given.data.crop == "face" else examined
            found = collect(lambda: dataset.find(self._given, look))
        if not any(problem.field == "name" for problem in problems):
            collect(self._check_output)
            if teaches_word(self._given):
                problems += conflicts.word_problems(self._given, found, self._host.text_tools().tokenizer, self._host.paths)
        problems += conflicts.method_problems(self._given)
        problems += [Problem("", reason) for reason in self._host.refusals()]
        if problems or found is None:
            raise InputError(problems)
        return found

    def _check_output(self) -> None:
        targets = artifacts.targets(self._given, self._host.paths, self._given.name).values()
        if not (self._folder / STATE).exists():
            for target in targets:
                lora_file.refuse_taken(target, self._given.saving.overwrite)
        for folder in (*(target.parent for target in targets), self._folder):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError([Problem("name", f"{folder} cannot be made: {error.strerror}. Check its permissions.")]) from error
            if not os.access(folder, os.W_OK):
                raise InputError([Problem("name", f"{folder} is not writable. Check its permissions.")])

    def _checkpoint(self) -> CheckpointInfo:
        """The checkpoint of this run: the loaded one, or the one that a run which is continued began on, loaded for it.

        Raises:
            HostError: that one is gone, or the host cannot load it.
        """
        loaded, path = self._host.checkpoint(), self._folder / CHECKPOINT
        if self._given.method == "dreambooth" and loaded.sha256 is None and loaded.path and loaded.path.is_file():
            loaded = dataclasses.replace(loaded, sha256=checkpoint_reader.sha256(loaded.path))
        if not (self._folder / STATE).exists() or not path.exists():
            write_atomically(path, loaded.to_json().encode("utf-8"))
            return loaded
        began = CheckpointInfo.from_json(path.read_text(encoding="utf-8"))
        if began.identity != loaded.identity:
            self._sink.say(f"This run began on {began}; {loaded} is loaded. Loading {began}.")
            self._host.load(began)
        return began

    def _form(self, info: CheckpointInfo, found: dataset.Dataset) -> list[str]:
        """Choose by the free memory: gradient checkpointing, and for DreamBooth how the weights are held. The choice stays with the run.

        Raises:
            InputError: memory or disk do not suffice for DreamBooth, with the figures.
        """
        stored = settings_of(self._folder) if (self._folder / STATE).exists() else None
        if stored is not None:  # a run that goes on keeps its form, whatever is free now; only the place is chosen anew
            for path in memory_plan.LEVERS:
                if value_at(self._given, path) in ("auto", False) and path != "tuning.host_weights":
                    self._given = replaced(self._given, path, value_at(stored, path))
        if self._given.method != "dreambooth":
            if stored is not None:
                return []
            self._given, notes = memory_plan.sparing(self._given, self._host.device, self._host.memory().free)
            return notes
        with self._host.lease(info, ()) as lease:
            weights, memory = memory_plan.weights_of(lease), self._host.memory()
            parts = method_costs.stored(info.path, lease)
        if stored is not None:
            self._given = memory_plan.placed(self._given, weights, self._host.device, memory.free, memory.ram)
            return []
        self._given, said = memory_plan.formed(self._given, weights, self._host.device, memory.free, memory.ram)
        self._check_disk(automatic_settings.resolved(self._given, found.views, 1)[0], found.views, weights.counts, parts)
        return [said]

    def _check_disk(self, settings: Settings, views: int, counts: Mapping[str, int], parts: Mapping[str, int]) -> None:
        """Files and states must find room together where they go to one disk.

        Raises:
            InputError: they do not, with the figures.
        """
        file, kept = method_costs.checkpoint_bytes(settings, counts, parts), memory_plan.states_at_once(settings, views)
        wants = method_costs.disk_wants(settings, file, counts, views)
        target = artifacts.main(artifacts.targets(settings, self._host.paths, "x")).parent
        disks: dict[int, list[tuple[Path, int, str]]] = {}
        names = ("the checkpoint", "the saved states", "a preview's checkpoint")
        for folder, need, what in zip((target, self._folder, self._folder), wants, names, strict=True):
            folder.mkdir(parents=True, exist_ok=True)
            if need:
                disks.setdefault(folder.stat().st_dev, []).append((folder, need, what))
        for wanted in disks.values():
            place, free, need = wanted[0][0], shutil.disk_usage(wanted[0][0]).free, sum(need for _, need, _ in wanted)
            if free < need:
                listed = ", ".join(f"{what} {size / 1e9:.1f} GB" for _, size, what in wanted)
                said = f"Too little disk: {need / 1e9:.1f} GB are needed on the disk of {place} ({listed}), {free / 1e9:.1f} are free. "
                said += "Free some space, or set tuning.weights to bf16"
                said += ", or preview.every to 0" * bool(wants[-1]) + ", or saving.states to last" * (kept > memory_plan.FEWEST_STATES)
                raise InputError([Problem("name", said + ".")])

    def _with_class_pictures(self, settings: Settings, found: dataset.Dataset, info: CheckpointInfo) -> dataset.Dataset | None:
        """The pictures with those of the class, made now where they are missing; None when the person stopped it."""
        if automatic_settings.prior_of(settings) != "pictures" or found.classes:
            return found
        side = min(512, settings.data.resolution)
        classes, count = ClassPictures(self._host, info, automatic_settings.class_caption(settings), side), settings.data.class_count
        self._sink.say(classes.announce(count))
        with _in_words():
            made = classes.make(
                count, lambda done, total: self._sink.stage("class pictures", done, total), self._sink.say, self._stop_asked
            )
        return dataclasses.replace(found, classes=dataset.class_report(classes.folder, count)) if made else None

    def _announce(self, settings: Settings, found: dataset.Dataset, notes: list[str]) -> None:
        write_atomically(self._folder / SETTINGS, codec.to_json(self._given).encode("utf-8"))
        for report in (found.subject, found.classes):
            for line in report.lines() if report else ():
                self._sink.say(line)
        if found.held:
            self._sink.say(f"Held out, not trained on: {', '.join(picture.name for picture in found.held)}.")
        self._sink.say(automatic_settings.arithmetic(settings, found.views))
        for note in notes:
            self._sink.say(note)

    # -- the work --------------------------------------------------------------------------------------------------

    def _work(self, settings: Settings, found: dataset.Dataset, info: CheckpointInfo) -> tuple[str, Path | None, int]:
        try:
            complete = self._patiently(lambda: self._with_class_pictures(settings, found, info))
            if complete is None:
                self._sink.say("Stopped while the class pictures were made; those that are ready are kept for the next run.")
                return "discarded", None, 0
            clock = speed_history.Clock(self._report, settings.training.accumulation)
            self._sink.stage("bind")
            with _in_words():
                assembly = self._patiently(lambda: self._bound(settings, complete, info, clock))
        except StoppedWhileWaiting:
            self._sink.say("Stopped before the first step; there is nothing to write.")
            return "discarded", None, 0
        try:
            return self._trained(settings, complete, assembly, info, clock)
        finally:
            assembly.close()

    def _patiently(self, action: Callable[[], _Made]) -> _Made:
        """The outcome of what needs the run's checkpoint; while another one is loaded it waits and begins anew.

        Raises:
            StoppedWhileWaiting: the person did not want to wait.
        """
        while True:
            try:
                return action()
            except CheckpointChangedError as changed:
                self._wait(changed)

    def _bound(self, settings: Settings, found: dataset.Dataset, info: CheckpointInfo, clock: speed_history.Clock) -> builder.Assembly:
        cache = self._host.paths.data / "cache" / "latents"
        assembly = builder.bind(settings, found, self._host, info, cache, self._wait, clock.steps)
        if assembly.exchange:
            assembly.exchange.told = self._tell_exchange
        return assembly

    def _trained(
        self, settings: Settings, found: dataset.Dataset, assembly: builder.Assembly, info: CheckpointInfo, clock: speed_history.Clock
    ) -> tuple[str, Path | None, int]:
        with _in_words():
            for line in assembly.plan.lines():
                self._sink.say(line)
            self._warn_of_long_captions(settings, assembly)
            mark = fingerprint(found.subject.pictures, found.classes.pictures if found.classes else ())
            way = self._way(settings, found, assembly, info)
            try:
                with contextlib.suppress(StoppedWhileWaiting), _closing(assembly.trainer.turns):
                    self._continue(assembly, mark, settings)
                    self._cache(assembly)
                    self._show_base(settings, way)
                    self._train(settings, assembly, mark, way)
                    self._remember_speed(settings, assembly.model.count("unet"), clock.seconds)
                return self._finish(settings, assembly, mark, way)
            finally:
                way.points.return_lent()
                if assembly.exchange and assembly.exchange.count:
                    self._sink.say(
                        f"The two models changed places {assembly.exchange.count} times, {assembly.exchange.total:.1f} s in all."
                    )

    def _tell_exchange(self, exchange: Exchange) -> None:
        if exchange.count == 1:
            self._sink.say(f"The WebUI's model and the trained one changed places: {exchange.seconds:.1f} s there and back.")

    def _way(self, settings: Settings, found: dataset.Dataset, assembly: builder.Assembly, info: CheckpointInfo) -> _Way:
        made = Output(settings, assembly, info, self._host, self._sink)

        def write(step: int) -> dict[str, Path]:
            return made.write(f"{settings.name}-{step:06d}", step, assembly.trainer.ema.applied())

        points = Points(self._folder, self._host, self._sink, write, made.verify, settings.saving.keep)
        return _Way(made, points, Previews(settings, self._host, self._folder, self._sink, found))

    def _report(self, report: StepReport) -> None:
        """Tell of steps, with the memory they take."""
        use = self._host.memory()
        self._sink.steps(dataclasses.replace(report, scalars={**report.scalars, "memory": use.now, "memory peak": use.peak}))

    def _warn_of_long_captions(self, settings: Settings, assembly: builder.Assembly) -> None:
        limit = settings.data.max_tokens
        for caption in sorted(set(assembly.recipe.captions)):
            count = len(assembly.text.tokens(caption))
            if count > limit:
                self._sink.say(f"A caption has {count} tokens; {limit} are read and the rest is cut off: {caption[:60]}…")

    def _continue(self, assembly: builder.Assembly, mark: str, settings: Settings) -> None:
        path = self._folder / STATE
        if not path.exists():
            return
        stored = state.load(path)
        step, changed = stored["trainer"]["step"], provenance.changed_meaning(stored["run"]["settings"], settings)
        wrong = "pictures" if stored["run"]["pictures"] != mark else f"settings {', '.join(changed)}" if changed else ""
        if wrong:
            raise InputError([Problem("", f"This run cannot go on: its {wrong} have changed since step {step}. Start a new run.")])
        if step > assembly.trainer.plan.steps:
            raise InputError([Problem("training.steps", f"is {settings.training.steps}, but step {step} is done already. Set it to more.")])
        if assembly.exchange:  # an optimizer puts its state where its weights lie: on the device
            assembly.trainer.turns.use(assembly.needs, assembly.exchange)
        with assembly.trainer.turns.step() if assembly.exchange else contextlib.nullcontext():
            assembly.trainer.load_state(stored["trainer"])
        if assembly.validation:
            assembly.validation.load_state(stored["validation"])
            for step, loss in assembly.validation.curve:
                self._sink.figure("validation", step, loss)
        self._sink.say(f"Going on at step {assembly.trainer.step} of {settings.training.steps}.")

    def _cache(self, assembly: builder.Assembly) -> None:
        """Encode what the coming steps will need. Encoding takes turns too."""
        trainer, batches = assembly.trainer, assembly.batches
        per_step = trainer.plan.accumulation
        missing = [(batches, variant) for variant in batches.missing(trainer.step * per_step, trainer.plan.steps * per_step)]
        if assembly.held and assembly.validation:
            missing += [(assembly.held, variant) for variant in assembly.held.missing(0, assembly.validation.pictures)]
        trainer.turns.use(("vae",))
        for done, (source, variant) in enumerate(missing):
            if self._control.pause_asked():
                trainer.turns.close()
            if self._stop_asked():
                break
            self._sink.stage("cache", done, len(missing))
            with trainer.turns.step():
                source.encode_variant(variant)
        trainer.turns.use(assembly.needs, assembly.exchange)

    def _train(self, settings: Settings, assembly: builder.Assembly, mark: str, way: _Way) -> None:
        trainer = assembly.trainer
        self._sink.stage("train", trainer.step, trainer.plan.steps)
        agenda = self._agenda(settings, assembly, mark, way)
        try:
            trainer.train(self._control.stop_asked, agenda.due, agenda.act)
        except DivergedError as error:
            raise self._with_last_good(assembly, way, error) from error
        except BaseException as error:
            self._rescue(assembly, mark, settings, error)
            raise
        if trainer.step < trainer.plan.steps:
            if assembly.validation and trainer.step > assembly.validation.step and not self._control.discard_asked():
                self._validate(assembly)
            self._save_state(assembly, mark, settings)
        elif keeps_states(settings) != "none":
            self._save_state(assembly, mark, settings, self._folder / saved_states.FINAL)

    def _agenda(self, settings: Settings, assembly: builder.Assembly, mark: str, way: _Way) -> Agenda:
        """What is done after which step; the last step is followed by the result, which needs no point or preview beside it."""
        control, saving, validation, total = self._control, settings.saving, assembly.validation, assembly.trainer.plan.steps
        epoch = saving.every_epochs * assembly.plan.epoch_steps / assembly.trainer.plan.accumulation

        def file_due(step: int) -> bool:
            by_epoch = bool(epoch) and int(step / epoch) > int((step - 1) / epoch)
            return step < total and (by_epoch or _falls_on(step, saving.every_steps))

        def preview_due(step: int) -> bool:
            pressed = control.preview_asked()
            return step < total and (pressed or (settings.preview.enabled and _falls_on(step, settings.preview.every or 0)))

        return Agenda(
            [
                (lambda step: validation is not None and validation.due(step, total), lambda _: self._validate(assembly)),
                (lambda step: step < total and _falls_on(step, saving.state_every), lambda _: self._save_state(assembly, mark, settings)),
                (file_due, lambda step: self._keep_point(settings, assembly, mark, way, step, snapshots.KEPT)),
                (
                    lambda step: control.save_asked() and step < total,
                    lambda step: self._keep_point(settings, assembly, mark, way, step, snapshots.ASKED),
                ),
                (preview_due, lambda step: self._preview(settings, assembly, way, step)),
                (lambda step: step < total and control.pause_asked(), lambda _: self._pause(settings, assembly, mark, way)),
            ]
        )

    def _pause(self, settings: Settings, assembly: builder.Assembly, mark: str, way: _Way) -> None:
        """Rest, with no turn held, until the person goes on or stops; the state is kept, and the buttons of a running job work."""
        step = assembly.trainer.step
        self._save_state(assembly, mark, settings)
        self._sink.say(f"Paused at step {step}. The WebUI is free; what was trained so far is saved.")

        def buttons() -> None:
            if self._control.save_asked():
                self._keep_point(settings, assembly, mark, way, step, snapshots.ASKED)
            if self._control.preview_asked():
                self._preview(settings, assembly, way, step)

        self._rest(buttons)
        self._sink.stage("train", step, assembly.trainer.plan.steps)

    def _rest(self, buttons: Callable[[], None] = lambda: None) -> None:
        """While a pause is asked for and no stop."""
        while self._control.pause_asked() and not self._control.stop_asked():
            self._sink.stage(PAUSED)
            buttons()
            time.sleep(_PAUSE_S)

    def _stop_asked(self) -> bool:
        """Whether to stop; while a pause is asked for, it waits. Call with no turn held."""
        self._rest()
        return self._control.stop_asked()

    def _remember_speed(self, settings: Settings, weights: int, seconds: float | None) -> None:
        """For the estimates of later runs; without it they are only less exact."""
        if seconds is None:
            return
        try:
            speed_history.remember(
                self._host.paths.data, speed_history.work_of(settings, speed_history.device_name(self._host.device), weights), seconds
            )
        except SaveError as error:
            _log.warning("The speed was not stored: %s", error)

    def _validate(self, assembly: builder.Assembly) -> None:
        """Measure the state that would be saved now."""
        validation, trainer = assembly.validation, assembly.trainer
        assert validation is not None
        with trainer.ema.applied():
            loss = validation.measure(trainer.step, trainer.turns.step)
        trainer.turns.close()
        self._sink.figure("validation", trainer.step, loss)
        best = validation.best
        said = (
            "the best so far" if best and best.step == trainer.step else f"the best was {best.loss:.4f} at step {best.step}" if best else ""
        )
        self._sink.say(f"Loss on the pictures held out, step {trainer.step}: {loss:.4f}{said and ', ' + said}.")

    def _save_state(self, assembly: builder.Assembly, mark: str, settings: Settings, path: Path | None = None) -> None:
        """To ``path``, or where a run that goes on looks for it. What cannot be written is said, and does not end the training."""
        run = {"pictures": mark, "settings": provenance.public_settings(settings)}
        try:
            kept = {"validation": assembly.validation.state()} if assembly.validation else {}
            state.save(path or self._folder / STATE, {"run": run, "trainer": assembly.trainer.state(), **kept})
        except SaveError as error:
            self._sink.say(f"The state of step {assembly.trainer.step} was not saved. {error}")

    def _rescue(self, assembly: builder.Assembly, mark: str, settings: Settings, error: BaseException) -> None:
        """Keep what was trained when something failed between two steps; the parameters are checked first."""
        if isinstance(assembly.trainer.optimizer, PerParameter) and assembly.trainer.optimizer.torn:
            self._sink.say("The step that failed had moved a part of the weights; the last saved state is kept.")
            return
        finite = all(parameter.numel() > 0 and bool(torch.isfinite(parameter).all()) for parameter in assembly.trainer.parameters())
        if assembly.trainer.step and finite:
            _log.info("Keeping step %d after %r", assembly.trainer.step, error)
            self._save_state(assembly, mark, settings)

    def _with_last_good(self, assembly: builder.Assembly, way: _Way, error: DivergedError) -> FinetuneError:
        step = assembly.trainer.ledger.good_step
        if step:
            files = way.output.write_result(step, assembly.trainer.ema.applied())
            self.rescued = (step, files)
            self._sink.say(f"{artifacts.main(files).name} holds step {step}, the last good one.")
        return error

    # -- files -----------------------------------------------------------------------------------------------------

    def _keep_point(self, settings: Settings, assembly: builder.Assembly, mark: str, way: _Way, step: int, why: str) -> None:
        """The file as trained so far, and the state beside it where that is wished; with a file that is dropped its state goes."""
        self._add_point(assembly, way, step, why)
        if keeps_states(settings) == "all":
            saved_states.tidy(self._folder, way.points.steps)
            if step in way.points.steps:
                self._save_state(assembly, mark, settings, saved_states.of_step(self._folder, step))

    def _add_point(self, assembly: builder.Assembly, way: _Way, step: int, why: str) -> None:
        """Save the file as trained so far; a full disk does not end the training, nor does anything that a press of a button met."""
        self._sink.stage("save")
        try:
            way.points.add(step, why)
        except FinetuneError as error:
            if why == snapshots.KEPT and not isinstance(error, SaveError):
                raise
            self._sink.say(f"The file of step {step} was not saved. {error}")
        self._sink.stage("train", step, assembly.trainer.plan.steps)

    def _finish(self, settings: Settings, assembly: builder.Assembly, mark: str, way: _Way) -> tuple[str, Path | None, int]:
        step, total = assembly.trainer.step, assembly.trainer.plan.steps
        if step < total and (self._control.discard_asked() or step == 0):
            self._sink.say("Stopped; nothing was written." if step else "Stopped before the first step; there is nothing to write.")
            return "discarded", None, step
        self._sink.stage("save")
        saved = self._best_step(assembly)
        try:
            files = self._files = way.output.write_result(saved, assembly.best())
        except BaseException as error:  # a full disk, say: what was trained must not go with it
            self._rescue(assembly, mark, settings, error)
            raise
        path = artifacts.main(files)
        if path.stem != settings.name:
            self._sink.say(f"{settings.name} was taken meanwhile; the result is called {path.stem}.")
        way.output.verify(files)
        if settings.method == "dreambooth":
            way.output.write_small(path)
            assembly.close()  # the preview needs the room
        if settings.preview.enabled:
            self._last_preview(settings, way, saved, files)
        outcome = "done" if step >= total else "stopped"
        if outcome == "done":
            (self._folder / STATE).unlink(missing_ok=True)
        self._sink.say(f"{path.name} is ready: {product_of(settings).call(path.stem, settings)}")
        return outcome, path, saved

    def _best_step(self, assembly: builder.Assembly) -> int:
        """The step whose state the result holds: the best by the pictures held out, else the last."""
        best, step = assembly.validation and assembly.validation.best, assembly.trainer.step
        if best and best.step != step:
            self._sink.say(f"The result holds step {best.step}, which did best on the pictures held out (loss {best.loss:.4f}).")
        return best.step if best else step

    # -- previews --------------------------------------------------------------------------------------------------

    def _show_base(self, settings: Settings, way: _Way) -> None:
        if settings.preview.enabled and settings.preview.every and not self._control.stop_asked():
            self._sink.stage("preview")
            with self._said("The base's preview"):
                way.previews.add_base()

    def _preview(self, settings: Settings, assembly: builder.Assembly, way: _Way, step: int) -> None:
        """The row of this step, with the file as trained so far."""
        if not way.previews.has(step):
            self._sink.stage("preview")
            with self._said(f"The preview of step {step}"), self._lent(settings, assembly, way, step) as files:
                way.previews.add(step, files)
        self._sink.stage("train", step, assembly.trainer.plan.steps)

    @contextmanager
    def _lent(self, settings: Settings, assembly: builder.Assembly, way: _Way, step: int) -> Iterator[Mapping[str, Path]]:
        """The files of a step for its preview. A LoRA or embedding must lie in the WebUI's folder and stays until the next
        preview, to be tried; a checkpoint of gigabytes lies in the run's folder and goes at once."""
        if settings.method != "dreambooth" or way.points.at(step):
            yield way.points.lend(step).files
            return
        path = self._folder / LENT_CHECKPOINT
        try:
            way.output.fill({"checkpoint": path}, settings.name, step, assembly.trainer.ema.applied())
            yield {"checkpoint": path}
        finally:
            path.unlink(missing_ok=True)

    def _last_preview(self, settings: Settings, way: _Way, step: int, files: Mapping[str, Path]) -> None:
        """The result's row and the card's picture."""
        self._sink.stage("preview")
        row = bool(settings.preview.every) and not way.previews.has(step)
        with self._said("The preview picture"):
            picture = way.previews.add(step, files) if row else way.previews.first(files)
            for kind, path in files.items():
                self._host.card_picture(kind, path, picture)

    @contextmanager
    def _said(self, what: str) -> Iterator[None]:
        """A preview that fails is said, and does not end the training: the file is good without it."""
        try:
            yield
        except (FinetuneError, RuntimeError, OSError) as error:
            _log.warning("%s failed", what, exc_info=True)
            self._sink.say(f"{what} could not be made: {error}")

    # -- waiting and giving back -----------------------------------------------------------------------------------

    def _wait(self, changed: CheckpointChangedError) -> None:
        """Called again and again while another checkpoint is loaded."""
        if self._control.stop_asked():
            raise StoppedWhileWaiting(str(changed))
        if self._control.pause_asked():
            self._rest()
            return
        self._sink.stage(f"waiting for {changed.wanted}")
        if self._control.load_asked() and self._info is not None:
            self._host.load(self._info)
            return
        time.sleep(_WAIT_S)

    def _give_back(self) -> None:
        self._sink.stage("give back")
        self.restoration = self._host.restoration()
        self._sink.say(self.restoration.line)


def _falls_on(step: int, every: int) -> bool:
    """Whether a step is one of every so many; 0 is never."""
    return every > 0 and step % every == 0


@contextmanager
def _closing(turns: Turns) -> Iterator[None]:
    """End the turn that may be open when the person stops while the run waits."""
    try:
        yield
    except StoppedWhileWaiting:
        turns.close()
        raise


@contextmanager
def _in_words() -> Iterator[None]:
    """Out of memory as an error that says what to change; the traceback, which holds tensors, is let go of."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        message = str(error).split("\n")[0]
    else:
        return
    raise OutOfMemoryError(
        f"The device ran out of memory ({message}). What was trained is kept and the run can go on. Switch on training.gradient_checkpointing, "
        "lower data.resolution or training.batch, or close other programs that use the card."
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device, or the machine, had no room left."""
    words = ("not enough memory", "out of memory", "can't allocate memory")
    return isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or any(word in str(error) for word in words)


def settings_of(folder: Path) -> Settings | None:
    """The settings of a run's folder, or None when they cannot be read."""
    try:
        return codec.load(folder / SETTINGS)
    except InputError as error:
        _log.warning("%s", error)
        return None
