"""The saved states of a run: written, resumed from, kept so that more steps can be trained later, and rescued when a step fails."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Container
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lib_finetune.assembly import provenance, scale_groups
from lib_finetune.errors import DivergedError, InputError, Problem, WeightsChangedError, device_loss
from lib_finetune.locked_files import put_in_place
from lib_finetune.runs import repair
from lib_finetune.runs.endings import beside_an_error
from lib_finetune.training import state
from lib_finetune.training.optim.per_parameter import PerParameter

if TYPE_CHECKING:
    from lib_finetune.runs.folder import RunFolder
    from lib_finetune.runs.session import Session

_log = logging.getLogger(__name__)


def kept_states(folder: RunFolder) -> dict[int, Path]:
    """Step → state from which more steps can be trained; a state that cannot be read is left out."""
    states = folder.states_of_steps()
    for path in (folder.state, folder.next_state, folder.final_state):
        try:
            if path.is_file():
                states[int(state.outline(path)["trainer"]["step"])] = path
        except (InputError, KeyError, TypeError, ValueError) as error:
            _log.warning("%s is no state: %s", path, error)
    return dict(sorted(states.items()))


def remove_states_without_snapshot(folder: RunFolder, steps: Container[int]) -> None:
    """Remove states whose snapshot no longer exists.

    Args:
        steps: of the existing snapshots.
    """
    for step, path in folder.states_of_steps().items():
        if step not in steps:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:  # costs only room
                _log.warning("%s was not removed: %s", path, error)


def save(session: Session, path: Path | None = None, *, patient: bool = False) -> float:
    """Write the state to ``path``, or to the place from which a run resumes. It replaces the last good state only once it is known to be good.

    A failure is reported and does not end the training. Returns the seconds of the writing.

    Args:
        patient: whether to wait where the disk is full, as `DiskRoom.try_state` does.
    """
    assembly, loss_log = session.assembly, session.assembly.trainer.loss_log
    target = path or _place(session.folder, loss_log.present)
    if target is None:
        return 0.0
    run: dict[str, Any] = {"pictures": session.fingerprint, "settings": provenance.public_settings(session.settings)}
    run[repair.COPIES] = repair.copies(session.folder)
    if session.rates.stretch.first:
        run["stretch"] = session.rates.stretch.to_json()
    if session.rates.apart:
        run["apart"] = scale_groups.to_json(session.rates.apart)
    validation = {"validation": assembly.validation.state()} if assembly.validation else {}

    seconds = 0.0

    def write() -> None:
        nonlocal seconds
        began = time.monotonic()
        state.save(target, {"run": run, "trainer": assembly.trainer.state(), **validation})
        seconds = time.monotonic() - began

    if not session.room.try_state(session.step, write, patient=patient):
        return seconds
    if path is None and loss_log.present:
        drop(session.folder.next_state)
    elif path is None and loss_log.present is None:
        loss_log.when_judged(partial(_settle, session.folder))
    return seconds


def _place(folder: RunFolder, good: bool | None) -> Path | None:
    """The path for a state that is good, bad or not judged yet (None); None if a good one stays in its place."""
    if good:
        return folder.state
    return None if good is False and folder.state.is_file() else folder.next_state


def _settle(folder: RunFolder, good: bool) -> None:
    """Judge the newest state, now that the loss after it is known."""
    try:
        if good and folder.next_state.is_file():
            put_in_place(folder.next_state, folder.state)
        elif not good and folder.state.is_file():
            folder.next_state.unlink(missing_ok=True)
    except OSError as error:  # the state exists under its other name, and a run resumes from it
        _log.warning("%s keeps its name: %s", folder.next_state, error)


def drop(*states: Path) -> None:
    """Remove states that are not needed any more."""
    for path in states:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("%s was not removed: %s", path, error)


def good_on_disk(folder: RunFolder) -> str:
    """A sentence on the good state in the run's folder."""
    step = next((step for step, path in kept_states(folder).items() if path == folder.state), None)
    if step is None:
        return "No state of this run is known to be good, and none is kept."
    return f"The last good state is that of step {step}; it is kept in the run's folder, and the run can be resumed from it."


def resume(session: Session) -> None:
    """Resume from the saved state, if there is one.

    Raises:
        InputError: images or settings differ from those of the state, or all its steps are done.
    """
    path, assembly = session.folder.latest_state(), session.assembly
    if path is None:
        return
    stored, proven = state.load(path), path == session.folder.state
    _check_same_run(session, stored["run"], stored["trainer"]["step"])
    trainer = assembly.trainer
    if assembly.swap:  # an optimizer puts its state on the device of its weights
        trainer.turns.use(assembly.needs, assembly.swap)
    with trainer.turns.step() if assembly.swap else contextlib.nullcontext():
        trainer.load_state(stored["trainer"], proven=proven)
    if not proven:
        trainer.loss_log.when_judged(partial(_settle, session.folder))
    if assembly.validation:
        assembly.validation.load_state(stored["validation"])
        for step, loss in assembly.validation.curve:
            session.sink.figure("validation", step, loss)
    session.sink.say(f"Resuming at step {session.step} of {session.total}.")


def _check_same_run(session: Session, stored: dict[str, str], step: int) -> None:
    changed = provenance.changed_meaning(stored["settings"], session.settings)
    wrong = "images" if stored["pictures"] != session.fingerprint else f"settings {', '.join(changed)}" if changed else ""
    if wrong:
        raise InputError([Problem("", f"This run cannot be resumed: its {wrong} have changed since step {step}. Start a new run.")])
    if step > session.total:
        raise InputError([Problem("training.steps", f"is {session.total}, but step {step} is done already. Set it to more.")])


def rescue(session: Session, error: BaseException) -> None:
    """Save the state of the training after a failure between two steps; the parameters are checked first."""
    if device_loss(error) or (isinstance(error, WeightsChangedError) and error.in_training):  # the parameters cannot be read, or are wrong
        return
    with beside_an_error("Keeping what was trained", session.sink):
        _keep_if_whole(session, error)


def _keep_if_whole(session: Session, error: BaseException) -> None:
    trainer = session.assembly.trainer
    if isinstance(trainer.optimizer, PerParameter) and trainer.optimizer.torn:
        session.sink.say("The step that failed had moved a part of the weights; the last saved state is kept.")
        return
    try:
        trainer.loss_log.fetch()  # losses that were not fetched yet
    except DivergedError:
        drop(session.folder.next_state)
        return
    finite = all(parameter.numel() > 0 and bool(torch.isfinite(parameter).all()) for parameter in trainer.parameters())
    if trainer.step and finite and trainer.loss_log.learned:
        _log.info("Keeping step %d after %r", trainer.step, error)
        save(session)
