"""Further steps for a run that is done or was stopped: a new run that begins with one of its kept states."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib_finetune.assembly import automatic_settings, provenance
from lib_finetune.assembly.artifact_kinds import artifact_kinds_of
from lib_finetune.assembly.automatic_settings import SPOKEN
from lib_finetune.assembly.rate_plan import WHOLE, RatePlan, Stretch
from lib_finetune.config import codec
from lib_finetune.config.fields import replaced, value_at
from lib_finetune.config.settings import Settings
from lib_finetune.errors import InputError, Problem, SaveError
from lib_finetune.estimates import memory_plan
from lib_finetune.export import lora_file
from lib_finetune.files import replacing, write_atomically
from lib_finetune.ports.host import Host
from lib_finetune.preflight import conflicts
from lib_finetune.runs import saved_states
from lib_finetune.runs.folder import FINAL, STATE, RunFolder
from lib_finetune.training import state

_FROM_FILE = {
    "lora": "name the LoRA file under network.start",
    "pivotal_tuning": "name the LoRA file under network.start",
    "textual_inversion": "name the embedding under embedding.init",
    "dreambooth": "load the checkpoint in the WebUI and train on it",
}


def further(
    host: Host, settings: Settings, run_folder: Path, step: int | None, more_steps: int, name: str, folder: Path
) -> tuple[Settings, Path]:
    """Prepare a run of more steps; a `Runner` on the folder with the settings that come back goes on from the state.

    The further steps have a schedule of their own (`optimizer.further`), so that the steps that are done mean what they meant; with a
    constant one the result is that of one long run.

    Args:
        settings: of the run before; steps, name, and what stands under saving and preview may be others.
        run_folder: of the run before; it stays as it is.
        step: whose state is gone on from; None: the last one.
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
    chosen = replaced(replaced(_in_form(settings, run_folder), "name", name), "training.steps", done + more_steps)
    if problems := conflicts.idle_problems(RatePlan(chosen, _begun(chosen, source))):
        raise InputError(problems)
    for product in artifact_kinds_of(chosen):
        lora_file.refuse_taken(product.target(host.paths, chosen, name), chosen.saving.overwrite)
    write_atomically(RunFolder(folder).checkpoint_file, begun.read_bytes())
    RunFolder(folder).write_settings(chosen)
    new, proven = RunFolder(folder), source.name in (STATE, FINAL)
    _link(source, new.state if proven else new.next_state)  # of the others it is not known that they are good
    return chosen, folder


def as_begun(settings: Settings, folder: RunFolder) -> Settings:
    """The settings with the automatic values that the run began with, where it resumes: later versions may derive others."""
    stored = _outline(folder.latest_state())
    free = provenance.free_settings(settings)
    for path, value in provenance.stored_settings(stored["run"]["settings"]).items() if stored else ():
        leaf = codec.all_leaves().get(path)
        automatic = leaf is not None and leaf.optional and value_at(settings, path) is None
        if automatic and value is not None and (path == "training.steps" or not path.startswith(free)):
            settings = replaced(settings, path, value)
    return settings


def stretch_of(settings: Settings, folder: RunFolder) -> Stretch:
    """The steps that have a schedule of their own now: those of the whole run, or those that it was given later.

    Args:
        settings: resolved.
    """
    path = folder.latest_state()
    return _begun(settings, path) if path else WHOLE


def _begun(settings: Settings, path: Path) -> Stretch:
    stored = _outline(path)
    if stored is None:
        return WHOLE
    stretch, done = Stretch.from_json(stored["run"].get("stretch")), int(stored["trainer"]["step"])
    steps = provenance.stored_settings(stored["run"]["settings"]).get("training.steps")
    if done == 0 or not isinstance(steps, int) or steps == settings.training.steps:
        return stretch
    if done == stretch.first:  # nothing was trained in it yet
        return dataclasses.replace(stretch, way=settings.optimizer.further)
    before = RatePlan(replaced(_with_rates(settings, stored), "training.steps", steps), stretch)
    return before.further(done, settings.optimizer.further)


def _with_rates(settings: Settings, stored: Mapping[str, Any]) -> Settings:
    """The settings with the learning rates that the state was trained with, where they are still automatic."""
    values = provenance.stored_settings(stored["run"]["settings"])
    for path in automatic_settings.RATES.values():
        if value_at(settings, path) is None:
            settings = replaced(settings, path, values.get(path))
    if settings.optimizer.name == "auto":
        settings = replaced(settings, "optimizer.name", values.get("optimizer.name", "auto"))
    return settings


def _outline(path: Path | None) -> Mapping[str, Any] | None:
    """A state's outline; None where there is none, or one that tells nothing (`saved_states.resume` says what is wrong with it)."""
    try:
        outline = state.outline(path) if path else None
        return outline if outline and outline["run"]["settings"] and "step" in outline["trainer"] else None
    except (InputError, KeyError, TypeError, ValueError):
        return None


def stretch_notes(plan: RatePlan) -> list[str]:
    """What is to be said of further steps: the rate where the steps before ended, and the one that they rise to; of the plan itself."""
    first, last = plan.stretch.first, plan.steps
    if not first:
        return []
    lines = [
        f"The {last - first} further steps, {first + 1} to {last}, have a schedule of their own (optimizer.further: {plan.stretch.way})."
    ]
    for group in plan.groups():
        ended, begins, highest = plan.stretch.ended.get(group, 0.0), plan.at(first).get(group, 0.0), plan.highest(group)
        lines.append(
            f"The rate of the {SPOKEN.get(group, group)} was {ended:.3g} in step {first}, is {begins:.3g} in step {first + 1}, and at most {highest:.3g}."
        )
    return lines


def _state(settings: Settings, run_folder: Path, step: int | None) -> tuple[Path, int]:
    """(the state to go on from, its step)."""
    states = saved_states.kept_states(RunFolder(run_folder))
    if not states:
        raise InputError([Problem("step", f"{run_folder.name} has kept no state (saving.states); {_without_state(settings)}")])
    chosen = max(states) if step is None else step
    if chosen not in states:
        listed = ", ".join(str(each) for each in states)
        raise InputError([Problem("step", f"No state of step {chosen} is kept, only of {listed}; {_without_state(settings)}")])
    return states[chosen], chosen


def _without_state(settings: Settings) -> str:
    return f"to go on from the file alone, which has no state of the optimizer, {_FROM_FILE[settings.method]}."


def _in_form(settings: Settings, run_folder: Path) -> Settings:
    """The settings with what the run before chose by the memory that was free."""
    before = RunFolder(run_folder).settings()
    for path in memory_plan.LEVERS if before else ():
        if value_at(settings, path) in ("auto", False):
            settings = replaced(settings, path, value_at(before, path))
    return settings


def _link(source: Path, target: Path) -> None:
    """The same file under another name, where the disk allows it; states are replaced and never written into."""
    try:
        os.link(source, target)
    except FileNotFoundError as error:
        raise SaveError(f"{source} is gone.") from error
    except OSError:
        with replacing(target) as copy, source.open("rb") as opened:
            shutil.copyfileobj(opened, copy)
