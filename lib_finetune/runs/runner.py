"""The story of a run: check, bind, cache, train, save, verify, preview, give the host back."""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path

from lib_finetune.assembly import builder, initial_weights
from lib_finetune.assembly.dataset import Dataset
from lib_finetune.assembly.rate_plan import RatePlan
from lib_finetune.assembly.run_plans import class_images_plan, preview_plan, saving_plan
from lib_finetune.assembly.subjects import subjects_of
from lib_finetune.config.settings import Settings
from lib_finetune.data.fingerprint import fingerprint
from lib_finetune.errors import DivergedError, device_errors_in_words
from lib_finetune.estimates import speed_history
from lib_finetune.estimates.run_settings import run_settings
from lib_finetune.files import logged_to
from lib_finetune.ports.checkpoint import CheckpointInfo
from lib_finetune.ports.events import ProgressSink
from lib_finetune.ports.host import Host, Restoration
from lib_finetune.preflight.problems import checked_dataset
from lib_finetune.runs import admission, reports, saved_states, session_previews
from lib_finetune.runs.artifacts import Artifacts, main_file
from lib_finetune.runs.control import Control
from lib_finetune.runs.endings import at_the_end, beside_an_error
from lib_finetune.runs.finish import finish, load_result, tidy, warning_of, write_last_good
from lib_finetune.runs.folder import RunFolder
from lib_finetune.runs.pace import pace_of
from lib_finetune.runs.painting import Painter, Patience
from lib_finetune.runs.preparation import clear_rests, encode_latents, with_class_images
from lib_finetune.runs.presses import Presses
from lib_finetune.runs.previews import Previews
from lib_finetune.runs.result import Result
from lib_finetune.runs.room import NO_WAIT, DiskRoom, RoomWait
from lib_finetune.runs.schedule import catch_up, keep_last_state, schedule_of
from lib_finetune.runs.second_try import with_second_try
from lib_finetune.runs.session import Session
from lib_finetune.runs.snapshots import Snapshots
from lib_finetune.runs.used_files import UsedFiles
from lib_finetune.runs.waiting import StoppedWhileWaiting, Waiting, closing_turn, heed
from lib_finetune.runs.write_journal import WriteJournal


class Runner:
    """Executes one run on a host, in the thread that calls it."""

    def __init__(
        self, settings: Settings, host: Host, folder: Path, sink: ProgressSink, control: Control, room: RoomWait = NO_WAIT
    ) -> None:
        """
        Args:
            folder: of this run: settings, state, log. If it holds a state, the run resumes from it.
            room: waits when a file cannot be written.
        """
        self._folder = RunFolder(folder)
        self._settings = initial_weights.without_missing_start_file(settings) if self._folder.resumes() else settings
        self._host = host
        self._sink = sink
        self._control = Presses(control, sink, resumes=self._folder.resumes())
        self._room = DiskRoom(sink, room)
        self._journal = WriteJournal(self._folder, host.paths.all)
        self._steps = reports.Steps(host, sink)
        self.restoration = Restoration()
        self._warning = ""
        self.rescued: tuple[int, dict[str, Path]] | None = None  # the step and the files that a failed run has written

    def execute(self) -> Result:
        """Run to the end.

        Raises:
            InputError: the settings, the images or the checkpoint are not usable; nothing was started.
            FinetuneError: the run failed; the state of the last good step is kept in the run's folder.
        """
        clear_rests(self._folder, self._journal, self._sink)
        with logged_to(self._journal), device_errors_in_words(), self._control.watched():
            return self._execute()

    def _execute(self) -> Result:
        try:
            looked = partial(heed, self._control, self._sink, "pictures")
            images = checked_dataset(self._settings, self._host, self._folder.resumes(), looked)
        except StoppedWhileWaiting:
            self._sink.say("Stopped before the first step; there is nothing to write.")
            return Result("discarded", None, 0, self.restoration)
        info = admission.checkpoint_of_run(self._settings.method == "dreambooth", self._host, self._folder, self._sink)
        stored, state_file = (self._folder.settings() if self._folder.resumes() else None), self._folder.latest_state()
        further_after = self._folder.further_after()
        definite = run_settings(self._settings, images, info, self._host, self._folder.path, stored, state_file, further_after)
        self._folder.write_settings(definite.chosen)
        for line in (*definite.lines, *(self._host.remember() or ())):
            self._sink.say(line)
        with at_the_end("Giving the model back", self._give_back, self._sink):
            outcome, files, steps = self._work(definite.settings, images, info, definite.rates)
            if files:
                self.rescued = (steps, files)
        file = main_file(files) if files else None
        if file and saving_plan(definite.settings).load_result:
            load_result(self._host, file, info, self._sink)
        return Result(outcome, file, steps, self.restoration, files, self._warning)

    def _work(self, settings: Settings, images: Dataset, info: CheckpointInfo, rates: RatePlan) -> tuple[str, dict[str, Path], int]:
        waiting = Waiting(info, self._folder, self._host, self._sink, self._control)
        clock = speed_history.clock_for(settings, self._steps.hear)
        try:
            complete = waiting.retry_until_checkpoint_loaded(
                lambda: with_class_images(
                    class_images_plan(settings, subjects_of(settings, images)), images, info, self._host, self._sink, waiting, self._room
                )
            )
            if complete is None:
                self._sink.say("Stopped while the class images were made; those that are ready are kept for the next run.")
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
        host = self._host
        used = UsedFiles(self._folder, host.paths.data, images.class_files)
        assembly = builder.bind(settings, images, host, info, used.latents, waiting.for_checkpoint, clock.steps, rates, used.note_latent)
        if assembly.swap:
            assembly.swap.on_swapped = partial(reports.say_swap, self._sink)
        return assembly

    def _session(
        self, settings: Settings, images: Dataset, assembly: builder.Assembly, info: CheckpointInfo, waiting: Waiting, rates: RatePlan
    ) -> Session:
        subjects = subjects_of(settings, images)
        saving, preview = saving_plan(settings, subjects), preview_plan(settings, subjects)
        artifacts = Artifacts(saving, assembly, info, self._host, self._sink, self._journal)
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
            room=self._room,
        )

    def _trained(self, session: Session, clock: speed_history.Clock) -> tuple[str, dict[str, Path], int]:
        for line in reports.of_plan(session):
            self._sink.say(line)
        with at_the_end("Tidying up", lambda: tidy(session), self._sink):
            with contextlib.suppress(StoppedWhileWaiting), closing_turn(session.assembly.trainer.turns):
                saved_states.resume(session)
                encode_latents(session)
                session_previews.show_base(session)
                catch_up(session)
                self._train(session)
                reports.remember_speed(session, clock.seconds)
            ended = finish(session)
            self._warning = warning_of(session) if ended[1] else ""
            return ended

    def _train(self, session: Session) -> None:
        trainer = session.assembly.trainer
        self._sink.stage("train", trainer.step, session.total)
        self._steps.pace = pace_of(session)
        trainer.loss_log.turned = partial(reports.say_distance, self._sink)
        schedule = schedule_of(session)
        judged = lambda: trainer.step == session.total or not self._control.discard_asked()  # noqa: E731
        try:
            with self._control.steps():
                with_second_try(session, lambda: trainer.train(self._control.stop_asked, schedule.due, schedule.act, judged=judged))
        except DivergedError as error:
            with beside_an_error("Writing the last good step", self._sink):
                self.rescued = write_last_good(session, error.step - 1)
            raise
        except BaseException as error:
            saved_states.rescue(session, error)
            raise
        keep_last_state(session)

    def _give_back(self) -> None:
        self._sink.stage("give back")
        self.restoration = self._host.restoration()
        self._sink.say(self.restoration.line)
