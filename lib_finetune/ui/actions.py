"""What the page's own buttons do: those in queue, results and gallery, which are HTML and not gradio's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lib_finetune.errors import InputError, Problem

Given = Mapping[str, Any]


def act(services: Any, name: str, given: Given) -> str:
    """Do what a button asks for; returns what is to be said, or "".

    Raises:
        FinetuneError: what stands in the way.
        InputError: there is no such action.
    """
    if name not in _ACTIONS:
        raise InputError([Problem("", f"The page asked for {name!r}, which this version does not know. Reload the page.")])
    return _ACTIONS[name](services, given) or ""


def _job(services: Any, given: Given) -> Any:
    return services.jobs.find(str(given.get("job", "")))


def _move(services: Any, given: Given) -> None:
    """Up or down by one place."""
    queue = [job.folder.name for job in services.jobs.queue()]
    name = _job(services, given).folder.name
    place = queue.index(name) if name in queue else -1
    if given.get("way") == "up" and place > 0:
        services.jobs.move(name, queue[place - 1])
    elif given.get("way") == "down" and 0 <= place < len(queue) - 1:
        services.jobs.move(queue[place + 1], name)


def _clone(services: Any, given: Given) -> str:
    return f"{services.trainings.clone(_job(services, given).folder.name, {}).settings.name} waits in the queue."


def _go_on(services: Any, given: Given) -> str:
    return f"{services.trainings.resume(str(given.get('job', ''))).settings.name} goes on."


def _pick(services: Any, given: Given) -> str:
    job, step = _job(services, given), int(given.get("step", -1))
    files = services.results.pick(job.folder.name, step, delete_others=bool(given.get("alone")))
    return f"{job.settings.name} is step {step} now" + (", the other files are deleted." if given.get("alone") else ".") * bool(files)


def _sheet(services: Any, given: Given) -> str:
    weights = [float(text) for text in str(given.get("weights") or "0.6, 0.8, 1").replace(";", ",").split(",") if _is_number(text)]
    prompts = str(given.get("prompts") or "").splitlines()
    services.comparison_grids.of_job(_job(services, given).folder.name, prompts, weights)
    return "The pictures are made before the next training begins; they appear under Sheets."


def _group_sheet(services: Any, given: Given) -> str:
    services.comparison_grids.of_group(str(given.get("group", "")))
    return "The comparison is made before the next training begins; it appears under Sheets."


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _verdict(services: Any, given: Given) -> str:
    return str(services.results.feedback(_job(services, given).folder.name, str(given.get("said"))).text)


def _more(services: Any, given: Given) -> str:
    steps = str(given.get("steps") or "").strip()
    if not steps.isdigit() or not int(steps):
        raise InputError([Problem("training.steps", f"{steps!r} is not a number of steps. Write for example 200.")])
    step = str(given.get("step") or "")
    way = str(given.get("further") or "")
    job = services.trainings.more(_job(services, given).folder.name, int(steps), int(step) if step.isdigit() else None, way)
    return f"{job.settings.name} waits in the queue: {steps} more steps."


def _select(services: Any, given: Given) -> str:
    job = _job(services, given)
    services.results.select(job.folder.name)
    return f"{job.settings.name} is loaded before the next training begins."


def _empty(services: Any, given: Given) -> str:
    return f"{services.storage.empty(str(given.get('part'))) / 1e6:.1f} MB are free again."


_ACTIONS: dict[str, Callable[[Any, Given], str | None]] = {
    "pause": lambda services, given: _job(services, given).control.pause(),
    "resume": lambda services, given: _job(services, given).control.resume(),
    "cancel": lambda services, given: services.jobs.cancel(_job(services, given).folder.name),
    "forget": lambda services, given: services.jobs.forget(_job(services, given).folder.name),
    "move": _move,
    "clone": _clone,
    "go on": _go_on,
    "hold": lambda services, _: services.jobs.hold(),
    "go": lambda services, _: services.jobs.go(),
    "pick": _pick,
    "sheet": _sheet,
    "group sheet": _group_sheet,
    "verdict": _verdict,
    "more": _more,
    "select": _select,
    "open": lambda services, given: services.results.open_folder(_job(services, given).folder.name),
    "stop errand": lambda services, given: services.jobs.find_task(str(given.get("errand"))).stop(),
    "empty": _empty,
}
