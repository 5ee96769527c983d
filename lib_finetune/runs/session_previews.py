"""The previews of a session: of the base, of a step and of the result, each with the files that it needs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lib_finetune.errors import FinetuneError, SaveError
from lib_finetune.runs.painting import StoppedWhilePaintingError

if TYPE_CHECKING:
    from lib_finetune.runs.session import Session

_log = logging.getLogger(__name__)


def show_base(session: Session) -> None:
    """Make the base's row before the first step, if the run makes previews between steps."""
    if session.preview.enabled and session.preview.every and not session.control.stop_asked():
        session.sink.stage("preview")
        with _failure_is_said(session, "The base's preview"):
            session.previews.add_base()


def show_step(session: Session, step: int, save: Callable[[], None]) -> None:
    """Make the row of a step, with the file as trained so far.

    Args:
        save: answers a press of Save during the preview.
    """
    if not session.previews.has(step):
        session.sink.stage("preview")
        what = f"The preview of step {step}"
        with _failure_is_said(session, what), session.painter.saving(save), _temporary_files(session, step) as files:
            session.previews.add(step, files)
    session.sink.stage("train", step, session.total)


def show_result(session: Session, step: int, files: Mapping[str, Path]) -> None:
    """Make the result's row and the card's image."""
    session.patience.begin()
    session.sink.stage("preview")
    row = bool(session.preview.every) and not session.previews.has(step)
    with _failure_is_said(session, "The preview image"):
        picture = session.previews.add(step, files) if row else session.previews.first(files)
        for kind, path in files.items():
            session.host.files.card_picture(kind, path, picture)
    session.sink.stage("preview", session.step, session.total)


@contextmanager
def _temporary_files(session: Session, step: int) -> Iterator[Mapping[str, Path]]:
    """The files of a step for its preview. A LoRA or embedding must lie in the WebUI's folder and stays until the next
    preview, to be tried; a checkpoint of gigabytes lies in the run's folder and goes at once."""
    if not session.preview.whole_model or session.snapshots.at(step):
        yield session.snapshots.lend(step).files
        return
    path = session.folder.preview_checkpoint
    try:
        session.artifacts.fill({"checkpoint": path}, session.saving.name, step, session.assembly.trainer.ema.applied())
        yield {"checkpoint": path}
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _failure_is_said(session: Session, what: str) -> Iterator[None]:
    """A failed preview is reported and does not end the training, because the file is good without it."""
    try:
        yield
    except StoppedWhilePaintingError:
        session.sink.say(f"{what} was left unfinished, since a stop was asked for.")
    except SaveError as error:  # a full disk is no fault of ours, so the sentence is enough and a traceback is not
        session.sink.say(f"{what} could not be kept: {error}")
    except (FinetuneError, RuntimeError, OSError) as error:
        _log.warning("%s failed", what, exc_info=True)
        session.sink.say(f"{what} could not be made: {error}")
