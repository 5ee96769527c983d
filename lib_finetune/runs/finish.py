"""The end of a run: the result is written, verified and shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lib_finetune.errors import FinetuneError
from lib_finetune.ports.checkpoint import CheckpointInfo
from lib_finetune.runs import reports, saved_states, session_previews
from lib_finetune.runs.artifacts import main_file

if TYPE_CHECKING:
    from pathlib import Path

    from lib_finetune.ports.events import ProgressSink
    from lib_finetune.ports.host import HostWeights
    from lib_finetune.runs.session import Session


def finish(session: Session) -> tuple[str, dict[str, Path], int]:
    """The outcome ("done", "stopped" or "discarded"), kind → file of the result, and the steps in it.

    Raises:
        FinetuneError: the files cannot be written, or the host's loader does not take them; the state is kept.
    """
    step, total, sink = session.step, session.total, session.sink
    learned = step > 0 and session.assembly.trainer.loss_log.learned
    if step < total and (session.control.discard_asked() or not learned):
        sink.say("Stopped; nothing was written." if learned else "Stopped before the first step; there is nothing to write.")
        return "discarded", {}, step
    sink.stage("save")
    validation, loss_log = session.assembly.validation, session.assembly.trainer.loss_log
    far = loss_log.doubtful and not (validation and validation.best)
    best = _last_good_step(session) if far else _best_step(session)
    try:
        files = session.room.insist(lambda: session.artifacts.write_result(best, session.assembly.best(), replaces=not far))
    except BaseException as error:  # a full disk, say: what was trained must not go with it
        saved_states.rescue(session, error)
        raise
    path = main_file(files)
    if path.stem != session.saving.name and not far:
        sink.say(f"{session.saving.name} was taken meanwhile; the result is called {path.stem}.")
    session.artifacts.verify(files)
    if session.preview.whole_model:
        stopped_before = session.control.stop_asked()  # which asked for the result as it is, the LoRA with it
        session.artifacts.write_extracted_lora(path, lambda: not stopped_before and session.control.stop_asked())
        session.assembly.close()  # the preview needs the room
    if session.preview.enabled:
        session_previews.show_result(session, best, files)
    outcome = "done" if step >= total else "stopped"
    if outcome == "done":
        saved_states.drop(session.folder.next_state, *([] if far else [session.folder.state]))
    sink.say(f"{path.name} is ready: {session.saving.writers[0].call(path.stem)}")
    if session.saving.clip_skip > 1:
        sink.say(session.saving.card.notes)
    return outcome, files, best


def warning_of(session: Session) -> str:
    """A sentence for the headline of a run whose loss ended far above its beginning, with advice; "" for any other run."""
    loss_log = session.assembly.trainer.loss_log
    if not loss_log.doubtful:
        return ""
    begun, ended = loss_log.course
    point = session.snapshots.last_good
    proposal = f" {main_file(point.files).name} (step {point.step}) was still good: try it first." if point else ""
    further = ""
    if session.folder.resumes():
        further = " The run can resume from its last good state with a lower learning rate; a third is a good next try."
    return f"Check the result: the loss rose from {begun:.2f} to {ended:.2f}, so it has probably gone wrong.{proposal}{further}"


def _best_step(session: Session) -> int:
    """The step whose state is the result: the best by the validation images, else the last."""
    validation = session.assembly.validation
    best = validation.best if validation else None
    if best and best.step != session.step:
        session.sink.say(f"The result holds step {best.step}, which did best on the validation images (loss {best.loss:.4f}).")
    return best.step if best else session.step


def _last_good_step(session: Session) -> int:
    """The step in the result of a run whose loss ended far above its beginning: the last good one, if it is in memory."""
    loss_log = session.assembly.trainer.loss_log
    if loss_log.good_step:
        loss_log.go_back()
        session.sink.say(f"The loss ended far above its beginning. The result holds step {loss_log.good_step}, the last good one.")
        return loss_log.good_step
    session.sink.say("The loss ended far above its beginning, so the result may be spoilt: look at its images first.")
    session.sink.say(saved_states.good_on_disk(session.folder))
    return session.step


def write_last_good(session: Session, bad_step: int) -> tuple[int, dict[str, Path]] | None:
    """Save the last good state in memory under a free name, and report the files on the disk; later files are removed.

    Args:
        bad_step: the step after which the loss was not finite.

    Returns:
        (step, kind → file), or None if no good state is in memory.

    Raises:
        SaveError: the files cannot be written.
    """
    trainer = session.assembly.trainer
    step = trainer.loss_log.good_step
    saved_states.drop(session.folder.next_state)
    session.snapshots.forsake(bad_step)
    if not step:
        session.sink.say(saved_states.good_on_disk(session.folder))
        return None
    files = session.room.insist(lambda: session.artifacts.write_result(step, trainer.ema.applied(), replaces=False))
    session.sink.say(f"{main_file(files).name} holds step {step}, the last good one.")
    return step, files


def tidy(session: Session) -> None:
    """At every end of a run: lent files are taken back, and states without a snapshot are removed."""
    session.snapshots.return_lent()
    if session.saving.states == "all":
        saved_states.remove_states_without_snapshot(session.folder, session.snapshots.steps)
    reports.say_swaps(session)


def load_result(host: HostWeights, file: Path, info: CheckpointInfo, sink: ProgressSink) -> None:
    """Have the host load the finished checkpoint; a failure to load does not spoil the run."""
    try:
        host.load(CheckpointInfo(file.stem, file, None, None, info.vae, info.prediction))
    except FinetuneError as error:
        sink.say(f"{file.name} is ready, but the WebUI could not load it now: {error}")
