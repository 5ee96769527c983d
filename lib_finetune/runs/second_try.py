"""The second try of a run whose very first step finds no room on the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lib_finetune.errors import OutOfMemoryError, is_out_of_memory, let_go
from lib_finetune.estimates.run_form import with_checkpointing

if TYPE_CHECKING:
    from lib_finetune.runs.session import Session


def with_second_try(session: Session, train: Callable[[], None]) -> None:
    """Train; where the very first step runs out of memory, switch gradient checkpointing on and try it once more.

    Raises:
        FinetuneError, RuntimeError: as ``train``, in a later step, in the second try, or where checkpointing is on already.
    """
    assembly, begun = session.assembly, session.step
    try:
        train()
    except (RuntimeError, MemoryError, OutOfMemoryError) as error:
        if session.step > begun or not is_out_of_memory(error) or not assembly.can_checkpoint:
            raise
        let_go(error)
    else:
        return
    session.sink.say("The first step ran out of memory: gradient checkpointing is on now, and the step is tried once more.")
    assembly.checkpoint_gradients()
    assembly.trainer.forget_step()
    if stored := session.folder.settings():  # so that a resumed run does not run out of memory first
        session.folder.write_settings(with_checkpointing(stored))
    train()
