"""The story of a run: check, bind, cache, train, save, verify, preview, give the host back."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from lib_finetune.assembly import automatic_settings, builder, further_steps, initial_weights
from lib_finetune.assembly.dataset import Dataset
from lib_finetune.assembly.rate_plan import RatePlan
from lib_finetune.assembly.run_plans import class_images_plan, preview_notes, preview_plan, saving_plan
from lib_finetune.assembly.subjects import subject_notes, subjects_of
from lib_finetune.config.settings import Settings
from lib_finetune.data import plan_report
from lib_finetune.data.fingerprint import fingerprint
from lib_finetune.errors import DivergedError, FinetuneError, InputError, SaveError, device_errors_in_words
from lib_finetune.estimates import memory_plan, run_form, speed_history
from lib_finetune.ports.checkpoint import CheckpointInfo
from lib_finetune.ports.events import ProgressSink, StepReport
from lib_finetune.ports.host import Host, Restoration
from lib_finetune.preflight import conflicts, teaching
from lib_finetune.preflight.problems import checked_dataset
from lib_finetune.runs import admission, saved_states, session_previews
from lib_finetune.runs.artifacts import Artifacts, main_file
from lib_finetune.runs.control import Control
from lib_finetune.runs.endings import at_the_end, beside_an_error
from lib_finetune.runs.finish import finish, write_last_good
from lib_finetune.runs.folder import RunFolder
from lib_finetune.runs.painting import Painter, Patience
from lib_finetune.runs.preparation import encode_latents, with_class_images
from lib_finetune.runs.previews import Previews
from lib_finetune.runs.schedule import schedule_of, validate
from lib_finetune.runs.session import Session
from lib_finetune.runs.snapshots import Snapshots
from lib_finetune.runs.waiting import StoppedWhileWaiting, Waiting, closing_turn, heed
from lib_finetune.training.model_swap import ModelSwap

_log = logging.getLogger(__name__)


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


class Runner:
    """Executes one run on a host, in the thread that calls it."""

    def __init__(self, settings: Settings, host: Host, folder: Path, sink: ProgressSink, control: Control) -> None:
        """
        Args:
            folder: of this run: settings, state, log. A run resumes from a state that lies there.
        """
        self._folder = RunFolder(folder)
        self._settings = initial_weights.without_missing_start_file(settings) if self._folder.resumes() else settings
        self._host = host
        self._sink = sink
        self._control = control
        self.restoration = Restoration()
        self.rescued: tuple[int, dict[str, Path]] | None = None
        """The step and the files that were written when the run failed, if any."""

    def execute(self) -> Result:
        """Run to the end.

        Raises:
            InputError: the settings, the images or the checkpoint will not do; nothing was started.
            FinetuneError: the run failed; the state of the last good step is kept in the run's folder.
        """
        with device_errors_in_words():
            return self._execute()

    def _execute(self) -> Result:
        try:
            images = checked_dataset(self._settings, self._host, self._folder.resumes(), self._looked_at)
        except StoppedWhileWaiting:
            self._sink.say("Stopped before the first step; there is nothing to write.")
            return Result("discarded", None, 0, self.restoration)
        info = admission.checkpoint_of_run(self._settings.method == "dreambooth", self._host, self._folder, self._sink)
        settings, rates = self._definite(images, info)
        for line in self._host.remember() or ():
            self._sink.say(line)
        with at_the_end("Giving the model back", self._give_back, self._sink):
            outcome, files, steps = self._work(settings, images, info, rates)
            if files:
                self.rescued = (steps, files)
        file = main_file(files) if files else None
        if file and saving_plan(settings).load_result:
            self._load(file, info)
        return Result(outcome, file, steps, self.restoration, files)

    def _looked_at(self, done: int, total: int) -> None:
        heed(self._control, self._sink, "pictures", done, total)

    def _definite(self, images: Dataset, info: CheckpointInfo) -> tuple[Settings, RatePlan]:
        """The settings with every automatic value filled in, and the learning rates by step; what was chosen is said.

        Raises:
            InputError: a part that is to be trained would stand still; memory or disk do not suffice.
        """
        tools, state_file = self._host.text_tools(), self._folder.latest_state()
        stored = self._folder.settings() if self._folder.resumes() else None
        chosen, notes = run_form.in_chosen_form(
            self._settings, stored, builder.data_plan(self._settings, images).epoch, info, self._host, self._folder.path
        )
        if not self._folder.resumes():
            notes = [*notes, *initial_weights.notes(chosen)]
        begun, plan = further_steps.as_begun(chosen, state_file), builder.data_plan(chosen, images)
        scales = builder.patch_scales(begun, self._host, info)
        settings, automatic = automatic_settings.resolved(begun, plan.epoch, tools.clip_skip, scales)
        rates = RatePlan(settings, further_steps.stretch_of(settings, state_file))
        if problems := conflicts.idle_problems(rates):
            raise InputError(problems)
        self._folder.write_settings(chosen)
        used = images.classes if automatic_settings.prior_of(settings) == "pictures" else None
        for report in (images.subject, used):
            for line in report.lines() if report else ():
                self._sink.say(line)
        for line in automatic_settings.unused_class_images(settings):
            self._sink.say(line)
        if images.held:
            self._sink.say(f"Held out, not trained on: {', '.join(picture.name for picture in images.held)}.")
        self._sink.say(automatic_settings.arithmetic(settings, plan, rates.stretch.first))
        for warning in teaching.warnings(settings, images):
            self._sink.say(f"Warning: {warning}")
        spoken = automatic_settings.rate_note(rates), *further_steps.stretch_notes(rates)
        words = *subject_notes(settings, subjects_of(settings, images)), *preview_notes(settings)
        for note in (*notes, *spoken, *automatic, *words, *memory_plan.identifier_notes(settings, tools.tokenizer)):
            self._sink.say(note)
        return settings, rates

    def _work(self, settings: Settings, images: Dataset, info: CheckpointInfo, rates: RatePlan) -> tuple[str, dict[str, Path], int]:
        waiting = Waiting(info, self._folder, self._host, self._sink, self._control)
        clock = speed_history.clock_for(settings, self._report)
        try:
            complete = waiting.retry_until_checkpoint_loaded(
                lambda: with_class_images(
                    class_images_plan(settings, subjects_of(settings, images)), images, info, self._host, self._sink, waiting
                )
            )
            if complete is None:
                self._sink.say("Stopped while the class pictures were made; those that are ready are kept for the next run.")
                return "discarded", {}, 0
            self._sink.stage("bind")
            with device_errors_in_words():
                assembly = waiting.retry_until_checkpoint_loaded(lambda: self._bind(settings, complete, info, waiting, clock, rates))
        except StoppedWhileWaiting:
            self._sink.say("Stopped before the first step; there is nothing to write.")
            return "discarded", {}, 0
        with at_the_end("Letting go of what was trained", assembly.close, self._sink), device_errors_in_words():
            return self._trained(self._session(settings, complete, assembly, info, waiting, rates), clock)

    def _bind(
        self, settings: Settings, images: Dataset, info: CheckpointInfo, waiting: Waiting, clock: speed_history.Clock, rates: RatePlan
    ) -> builder.Assembly:
        """The objects of the run on the borrowed model."""
        cache = self._host.paths.data / "cache" / "latents"
        assembly = builder.bind(settings, images, self._host, info, cache, waiting.for_checkpoint, clock.steps, rates)
        if assembly.swap:
            assembly.swap.on_swapped = self._say_swap
        return assembly

    def _session(
        self, settings: Settings, images: Dataset, assembly: builder.Assembly, info: CheckpointInfo, waiting: Waiting, rates: RatePlan
    ) -> Session:
        subjects = subjects_of(settings, images)
        saving, preview = saving_plan(settings, subjects), preview_plan(settings, subjects)
        artifacts = Artifacts(saving, assembly, info, self._host, self._sink)
        patience = Patience(self._control.stop_asked)
        painter = Painter(self._host.pictures, self._control, waiting.while_paused, patience)
        return Session(
            settings=settings,
            rates=rates,
            fingerprint=fingerprint(images.subject.pictures, images.classes.pictures if images.classes else ()),
            folder=self._folder,
            host=self._host,
            sink=self._sink,
            control=self._control,
            waiting=waiting,
            assembly=assembly,
            saving=saving,
            preview=preview,
            artifacts=artifacts,
            snapshots=Snapshots(self._folder, self._host.files, self._sink, artifacts, saving.keep),
            previews=Previews(preview, self._host, painter, self._folder, self._sink, images),
            painter=painter,
            patience=patience,
            held=images.held,
        )

    def _trained(self, session: Session, clock: speed_history.Clock) -> tuple[str, dict[str, Path], int]:
        assembly = session.assembly
        micro_steps = session.total * assembly.trainer.plan.accumulation
        for line in (*plan_report.lines(assembly.plan, micro_steps), *self._too_long(session)):
            self._sink.say(line)
        with at_the_end("Tidying up", lambda: self._tidy(session), self._sink):
            with contextlib.suppress(StoppedWhileWaiting), closing_turn(assembly.trainer.turns):
                saved_states.resume(session)
                encode_latents(session)
                session_previews.show_base(session)
                self._train(session)
                self._remember_speed(session, clock.seconds)
            return finish(session)

    def _too_long(self, session: Session) -> list[str]:
        """Of every text that the run reads."""
        settings, plan, text = session.settings, session.assembly.plan, session.assembly.text
        shown = [picture for picture in (*plan.pictures, *session.held) if not plan.captioning.uses_templates(picture)]
        own = [caption for picture in shown for caption in plan.captioning.every(picture)]
        prompts = [session.preview.filled(each.prompt, session.preview.trigger) for each in session.preview.prompts]
        return [
            *automatic_settings.long_captions(settings, own, text),
            *automatic_settings.long_captions(settings, plan.used_templates, text, "template"),
            *automatic_settings.long_captions(settings, plan.class_captions, text, "class caption"),
            *automatic_settings.long_prompts(settings, prompts if session.preview.enabled else [], text),
        ]

    def _tidy(self, session: Session) -> None:
        session.snapshots.return_lent()
        if session.saving.states == "all":
            saved_states.remove_states_without_snapshot(session.folder, session.snapshots.steps)
        swap = session.assembly.swap
        if swap and swap.count:
            self._sink.say(f"The two models changed places {swap.count} times, {swap.total:.1f} s in all.")

    def _train(self, session: Session) -> None:
        trainer, validation = session.assembly.trainer, session.assembly.validation
        self._sink.stage("train", trainer.step, session.total)
        trainer.loss_log.turned = partial(_say_distance, self._sink)
        schedule = schedule_of(session)

        def judged() -> bool:
            return trainer.step == session.total or not self._control.discard_asked()

        try:
            trainer.train(self._control.stop_asked, schedule.due, schedule.act, judged=judged)
        except DivergedError as error:
            with beside_an_error("Writing the last good step", self._sink):
                self.rescued = write_last_good(session, error.step - 1)
            raise
        except BaseException as error:
            saved_states.rescue(session, error)
            raise
        if trainer.step < session.total:
            if validation and trainer.step > validation.step and not self._control.discard_asked():
                session.patience.begin()
                validate(session)
            saved_states.save(session)
        elif session.saving.states != "none" and not trainer.loss_log.doubtful:
            saved_states.save(session, session.folder.final_state)

    def _remember_speed(self, session: Session, seconds: float | None) -> None:
        """For the estimates of later runs; without it they are only less exact."""
        if seconds is None:
            return
        weights = session.assembly.model.count("unet")
        work = speed_history.work_of(session.settings, speed_history.device_name(self._host.device), weights)
        try:
            speed_history.remember(self._host.paths.data, work, seconds)
        except SaveError as error:
            _log.warning("The speed was not stored: %s", error)

    def _report(self, report: StepReport) -> None:
        """Tell of steps, with the memory they take."""
        use = self._host.memory()
        self._sink.steps(dataclasses.replace(report, scalars={**report.scalars, "memory": use.now, "memory peak": use.peak}))

    def _say_swap(self, swap: ModelSwap) -> None:
        if swap.count == 1:
            self._sink.say(f"The WebUI's model and the trained one changed places: {swap.seconds:.1f} s there and back.")

    def _load(self, file: Path, info: CheckpointInfo) -> None:
        try:
            self._host.load(CheckpointInfo(file.stem, file, None, None, info.vae, info.prediction))
        except FinetuneError as error:
            self._sink.say(f"{file.name} is ready, but the WebUI could not load it now: {error}")

    def _give_back(self) -> None:
        self._sink.stage("give back")
        self.restoration = self._host.restoration()
        self._sink.say(self.restoration.line)


def _say_distance(sink: ProgressSink, far: bool) -> None:
    sink.say(
        "The loss is far above its beginning: the training goes on, and the last good state is kept until it comes down again."
        if far
        else "The loss has come down again."
    )
