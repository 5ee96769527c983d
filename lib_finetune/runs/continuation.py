"""Further steps for a run that is done or was stopped: a new run that begins with one of its kept states."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lib_finetune.assembly.further_steps import begun_stretch
from lib_finetune.assembly.rate_plan import RatePlan
from lib_finetune.assembly.run_plans import saving_plan
from lib_finetune.config.fields import replaced
from lib_finetune.config.settings import Settings
from lib_finetune.errors import InputError, Problem, SaveError
from lib_finetune.estimates import run_form
from lib_finetune.export import lora_file
from lib_finetune.files import replacing, write_atomically
from lib_finetune.ports.host import Host
from lib_finetune.preflight import conflicts
from lib_finetune.runs import saved_states
from lib_finetune.runs.folder import FINAL, STATE, RunFolder

_FROM_FILE = {
    "lora": "name the LoRA file under network.start",
    "pivotal_tuning": "name the LoRA file under network.start",
    "textual_inversion": "name the embedding under embedding.init",
    "dreambooth": "load the checkpoint in the WebUI and train on it",
}


def further(
    host: Host, settings: Settings, run_folder: Path, step: int | None, more_steps: int, name: str, folder: Path
) -> tuple[Settings, Path]:
    """Prepare a run of more steps; a `Runner` on the folder, with the returned settings, resumes from the state.

    The further steps have a schedule of their own (`optimizer.further`), so that it does not change what the finished steps did; with a
    constant schedule the result equals that of one long run.

    Args:
        settings: of the run before; steps, name, saving and preview may differ.
        run_folder: of the run before; it stays as it is.
        step: the step whose state the new run starts from; None: the last one.
        name: of the new result.
        folder: for the new run, which does not exist yet.

    Returns:
        (the settings of the new run, ``folder``).

    Raises:
        InputError: there is no such state, the name is taken, ``more_steps`` is not above 0, or a part that is to be trained would stand
            still in all of them.
        SaveError: the folder cannot be written.
    """
    source, done = _state(settings, run_folder, step)
    if more_steps < 1:
        raise InputError([Problem("training.steps", f"{more_steps} more steps are none. Give 1 or more.")])
    begun = RunFolder(run_folder).checkpoint_file
    if not begun.is_file():
        raise InputError([Problem("", f"{run_folder.name} does not tell its checkpoint any more; {_without_state(settings)}")])
    before = RunFolder(run_folder).settings()
    in_form = run_form.in_form_of(before, settings) if before else settings
    chosen = replaced(replaced(in_form, "name", name), "training.steps", done + more_steps)
    if problems := conflicts.idle_problems(RatePlan(chosen, begun_stretch(chosen, source, done))):
        raise InputError(problems)
    saving = saving_plan(chosen)
    for target in saving.targets(host.paths, name).values():
        lora_file.refuse_taken(target, saving.overwrite)
    write_atomically(RunFolder(folder).checkpoint_file, begun.read_bytes())
    RunFolder(folder).write_settings(chosen)
    RunFolder(folder).write_further(done)
    new, proven = RunFolder(folder), source.name in (STATE, FINAL)
    _link(source, new.state if proven else new.next_state)  # other states are not known to be good
    return chosen, folder


def _state(settings: Settings, run_folder: Path, step: int | None) -> tuple[Path, int]:
    """(the state from which the new run starts, its step)."""
    states = saved_states.kept_states(RunFolder(run_folder))
    if not states:
        raise InputError([Problem("step", f"{run_folder.name} has kept no state (saving.states); {_without_state(settings)}")])
    chosen = max(states) if step is None else step
    if chosen not in states:
        listed = ", ".join(str(each) for each in states)
        raise InputError([Problem("step", f"No state of step {chosen} is kept, only of {listed}; {_without_state(settings)}")])
    return states[chosen], chosen


def _without_state(settings: Settings) -> str:
    return f"to continue from the file alone, which has no optimizer state, {_FROM_FILE[settings.method]}."


def _link(source: Path, target: Path) -> None:
    """Link the file under another name if the disk allows it, because states are replaced and never written into; else copy it."""
    try:
        os.link(source, target)
    except FileNotFoundError as error:
        raise SaveError(f"{source} is gone.") from error
    except OSError:
        with replacing(target) as copy, source.open("rb") as opened:
            shutil.copyfileobj(opened, copy)
