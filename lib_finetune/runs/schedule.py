"""The schedule of a run: what is due after each step, in a fixed order."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from lib_finetune.errors import FinetuneError, SaveError, StepsSkippedError
from lib_finetune.runs import saved_states, session_previews
from lib_finetune.runs.snapshots import ASKED, KEPT
from lib_finetune.runs.state_clock import StateClock

if TYPE_CHECKING:
    from lib_finetune.runs.session import Session

Entry = tuple[Callable[[int], bool], Callable[[int], None]]
"""(whether the action is due after a step, the action); the question comes once for each step, so it may consume a person's press."""


class Schedule:
    """Gives `Trainer.train` its ``due`` and ``act``."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = tuple(entries)
        self._pending: list[Callable[[int], None]] = []

    def due(self, step: int) -> bool:
        """Whether anything is due after this step. Asks every entry, even after one that is due."""
        self._pending = [act for due, act in self._entries if due(step)]
        return bool(self._pending)

    def act(self, step: int) -> None:
        """Do the actions that `due` found, in the order of the entries."""
        for act in self._pending:
            act(step)


def schedule_of(session: Session) -> Schedule:
    """The actions of a run between its steps. The last step needs no snapshot or preview, because the result follows."""
    control, saving, total = session.control, session.saving, session.total
    validation, clock = session.assembly.validation, StateClock(saving.state_every)

    def preview_due(step: int) -> bool:
        if step >= total:
            return False
        pressed = control.preview_asked()
        return pressed or (session.preview.enabled and _falls_on(step, session.preview.every))

    return Schedule(
        [
            (lambda step: validation is not None and validation.due(step, total), lambda _: validate(session)),
            (lambda step: step < total and clock.due(step), lambda _: _save_state(session, clock)),
            (lambda step: _snapshot_due(session, step), lambda step: _keep(session, step, KEPT)),
            (lambda step: step < total and control.save_asked(), lambda step: _keep(session, step, ASKED)),
            (preview_due, lambda step: _show(session, step)),
            (lambda step: step < total and control.pause_asked(), lambda _: _pause(session)),
        ]
    )


def _snapshot_due(session: Session, step: int) -> bool:
    saving = session.saving
    epoch = saving.every_epochs * session.assembly.plan.epoch_steps / session.assembly.trainer.plan.accumulation
    ends_epoch = bool(epoch) and int(step / epoch) > int((step - 1) / epoch)
    return step < session.total and (ends_epoch or _falls_on(step, saving.every_steps))


def catch_up(session: Session) -> None:
    """Complete the snapshot of the step from which a run resumes: it may have been killed before the snapshot, or between file and card."""
    step = session.step
    if step and _snapshot_due(session, step):
        _keep(session, step, KEPT)


class StoppedWhileMeasuringError(FinetuneError):
    """The person asked for a stop while the loss was measured, or the measurement would take too long after a stop."""


def keep_last_state(session: Session) -> None:
    """The state that the steps have led to: of a stopped run to be resumed, of a finished one to be trained on, where that is wished.

    Raises:
        StepsSkippedError: no step of a finished run has moved a weight.
    """
    trainer, validation = session.assembly.trainer, session.assembly.validation
    if trainer.step < session.total:
        if validation and trainer.step > validation.step and not session.control.discard_asked():
            session.patience.begin()
            validate(session)
        saved_states.save(session)
    elif not trainer.loss_log.learned:
        raise StepsSkippedError(trainer.step, trainer.step)
    elif session.saving.states != "none" and not trainer.loss_log.doubtful:
        saved_states.save(session, session.folder.final_state)


def validate(session: Session) -> None:
    """Measure the loss on the validation images with the weights that would be saved now."""
    validation, trainer = session.assembly.validation, session.assembly.trainer
    if validation is None:
        return
    total = validation.draws
    session.sink.stage("measure", 0, total)
    drawn = itertools.count()

    @contextmanager
    def turn() -> Iterator[None]:
        """One draw; before it, the person's buttons are checked."""
        done = next(drawn)
        session.sink.stage("measure", done, total)
        if session.control.pause_asked():
            trainer.turns.close()
            session.waiting.while_paused()
        if session.patience.is_over():
            raise StoppedWhileMeasuringError
        with trainer.turns.step():
            yield

    try:
        with trainer.ema.applied():
            loss = validation.measure(trainer.step, turn)
    except StoppedWhileMeasuringError:
        session.sink.say(f"The loss on the validation images was not measured after step {trainer.step}, since a stop was asked for.")
        return
    finally:
        trainer.turns.close()
        session.sink.stage("train", trainer.step, session.total)
    session.sink.figure("validation", trainer.step, loss)
    best = validation.best
    comparison = ""
    if best:
        comparison = ", the best so far" if best.step == trainer.step else f", the best was {best.loss:.4f} at step {best.step}"
    session.sink.say(f"Loss on the validation images, step {trainer.step}: {loss:.4f}{comparison}.")


def _pause(session: Session) -> None:
    """Pause without a turn until the person resumes or stops; the state is saved, and the buttons of a running job work."""
    step, control = session.step, session.control
    saved_states.save(session)
    session.sink.say(f"Paused at step {step}. The WebUI is free; what was trained so far is saved.")

    def buttons() -> None:
        if control.save_asked():
            _keep(session, step, ASKED)
        if control.preview_asked():
            _show(session, step)

    session.waiting.while_paused(buttons)
    session.sink.stage("train", step, session.total)


def _save_state(session: Session, clock: StateClock) -> None:
    if message := clock.wrote(saved_states.save(session, patient=True)):
        session.sink.say(message)
    session.sink.stage("train", session.step, session.total)


def _show(session: Session, step: int) -> None:
    session_previews.show_step(session, step, lambda: _keep(session, step, ASKED))


def _falls_on(step: int, every: int) -> bool:
    """Whether a step is a multiple of an interval; an interval of 0 never comes."""
    return every > 0 and step % every == 0


def _keep(session: Session, step: int, why: str) -> None:
    """Save a snapshot, and the state beside it if the settings say so; a snapshot that is dropped takes its state along.

    A full disk does not end the training, and neither does a failure after a press of a button.

    Raises:
        FinetuneError: the host's loader refuses a file that the settings ask for.
    """
    session.sink.stage("save")
    try:
        session.snapshots.add(step, why)
    except FinetuneError as error:
        if why == KEPT and not isinstance(error, SaveError):
            raise
        session.sink.say(f"The file of step {step} was not saved. {error}")
    session.sink.stage("train", step, session.total)
    session.assembly.trainer.loss_log.when_judged(partial(session.snapshots.judged, step))
    if session.saving.states == "all":
        saved_states.remove_states_without_snapshot(session.folder, session.snapshots.steps)
        if step in session.snapshots.steps:
            saved_states.save(session, session.folder.state_of(step))
