"""The saved states of a run: written, resumed from, kept so that more steps can be trained later, and rescued when a step fails."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lib_finetune.assembly import provenance
from lib_finetune.errors import InputError, Problem, SaveError, device_loss
from lib_finetune.runs.endings import beside_an_error
from lib_finetune.training import state
from lib_finetune.training.optim.per_parameter import PerParameter

if TYPE_CHECKING:
    from lib_finetune.runs.folder import RunFolder
    from lib_finetune.runs.session import Session

_log = logging.getLogger(__name__)


def kept_states(folder: RunFolder) -> dict[int, Path]:
    """Step → state, of all that more steps can be trained from; one that cannot be read is left out."""
    states = folder.states_of_steps()
    for path in (folder.state, folder.final_state):
        try:
            if path.is_file():
                states[int(state.outline(path)["trainer"]["step"])] = path
        except (InputError, KeyError, TypeError, ValueError) as error:
            _log.warning("%s is no state: %s", path, error)
    return dict(sorted(states.items()))


def remove_states_without_snapshot(folder: RunFolder, steps: Container[int]) -> None:
    """Remove the states beside snapshots that are gone.

    Args:
        steps: of the snapshots that are there.
    """
    for step, path in folder.states_of_steps().items():
        if step not in steps:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:  # costs only room
                _log.warning("%s was not removed: %s", path, error)


def save(session: Session, path: Path | None = None) -> None:
    """Write the state to ``path``, or where a run resumes from. What cannot be written is said, and does not end the training."""
    assembly = session.assembly
    run = {"pictures": session.fingerprint, "settings": provenance.public_settings(session.settings)}
    validation = {"validation": assembly.validation.state()} if assembly.validation else {}
    try:
        state.save(path or session.folder.state, {"run": run, "trainer": assembly.trainer.state(), **validation})
    except SaveError as error:
        session.sink.say(f"The state of step {session.step} was not saved. {error}")


def resume(session: Session) -> None:
    """Continue from the saved state, where there is one.

    Raises:
        InputError: images or settings are others than those of the state, or all its steps are done.
    """
    if not session.folder.resumes():
        return
    stored, assembly = state.load(session.folder.state), session.assembly
    _check_same_run(session, stored["run"], stored["trainer"]["step"])
    trainer = assembly.trainer
    if assembly.exchange:  # an optimizer puts its state where its weights lie: on the device
        trainer.turns.use(assembly.needs, assembly.exchange)
    with trainer.turns.step() if assembly.exchange else contextlib.nullcontext():
        trainer.load_state(stored["trainer"])
    if assembly.validation:
        assembly.validation.load_state(stored["validation"])
        for step, loss in assembly.validation.curve:
            session.sink.figure("validation", step, loss)
    session.sink.say(f"Going on at step {session.step} of {session.total}.")


def _check_same_run(session: Session, stored: dict[str, str], step: int) -> None:
    changed = provenance.changed_meaning(stored["settings"], session.settings)
    wrong = "pictures" if stored["pictures"] != session.fingerprint else f"settings {', '.join(changed)}" if changed else ""
    if wrong:
        raise InputError([Problem("", f"This run cannot go on: its {wrong} have changed since step {step}. Start a new run.")])
    if step > session.total:
        raise InputError([Problem("training.steps", f"is {session.total}, but step {step} is done already. Set it to more.")])


def rescue(session: Session, error: BaseException) -> None:
    """Keep what was trained when something failed between two steps; the parameters are checked first."""
    if device_loss(error):  # nothing can be read from the GPU
        return
    with beside_an_error("Keeping what was trained", session.sink):
        _keep_if_whole(session, error)


def _keep_if_whole(session: Session, error: BaseException) -> None:
    trainer = session.assembly.trainer
    if isinstance(trainer.optimizer, PerParameter) and trainer.optimizer.torn:
        session.sink.say("The step that failed had moved a part of the weights; the last saved state is kept.")
        return
    finite = all(parameter.numel() > 0 and bool(torch.isfinite(parameter).all()) for parameter in trainer.parameters())
    if trainer.step and finite:
        _log.info("Keeping step %d after %r", trainer.step, error)
        save(session)
