"""The end of a run: the result is written, verified and shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lib_finetune.runs import previews, saved_states
from lib_finetune.runs.artifacts import main_file

if TYPE_CHECKING:
    from pathlib import Path

    from lib_finetune.runs.session import Session


def finish(session: Session) -> tuple[str, dict[str, Path], int]:
    """Outcome ("done", "stopped" or "discarded"), kind → file of the result, and the steps that are in it.

    Raises:
        FinetuneError: the files cannot be written, or the host's loader does not take them; the state is kept.
    """
    step, total, sink = session.step, session.total, session.sink
    if step < total and (session.control.discard_asked() or step == 0):
        sink.say("Stopped; nothing was written." if step else "Stopped before the first step; there is nothing to write.")
        return "discarded", {}, step
    sink.stage("save")
    best = _best_step(session)
    try:
        files = session.artifacts.write_result(best, session.assembly.best())
    except BaseException as error:  # a full disk, say: what was trained must not go with it
        saved_states.rescue(session, error)
        raise
    path = main_file(files)
    if path.stem != session.saving.name:
        sink.say(f"{session.saving.name} was taken meanwhile; the result is called {path.stem}.")
    session.artifacts.verify(files)
    if session.preview.whole_model:
        session.artifacts.write_extracted_lora(path)
        session.assembly.close()  # the preview needs the room
    if session.preview.enabled:
        previews.show_result(session, best, files)
    outcome = "done" if step >= total else "stopped"
    if outcome == "done":
        session.folder.state.unlink(missing_ok=True)
    sink.say(f"{path.name} is ready: {session.saving.writers[0].call(path.stem)}")
    return outcome, files, best


def _best_step(session: Session) -> int:
    """The step whose state the result holds: the best by the validation images, else the last."""
    validation = session.assembly.validation
    best = validation.best if validation else None
    if best and best.step != session.step:
        session.sink.say(f"The result holds step {best.step}, which did best on the pictures held out (loss {best.loss:.4f}).")
    return best.step if best else session.step
