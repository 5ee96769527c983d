"""What the page's own buttons do: those on cards, results and images, which are HTML and not gradio's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from lib_finetune.app.lora_tools import EXTRACT, RESIZE
from lib_finetune.config.settings import Settings
from lib_finetune.errors import InputError, Problem
from lib_finetune.ui import grids, queue
from lib_finetune.ui.page_state import PageChange, PageState

if TYPE_CHECKING:
    from lib_finetune.app.services import Services
    from lib_finetune.jobs.background_task import BackgroundTask
    from lib_finetune.jobs.job import Job

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Press:
    """A button that was pressed.

    Attributes:
        services: what it may ask for.
        page: what its page shows.
        arguments: its own, and the fields beside it.
        settings: reads those that are in the form.
    """

    services: Services
    page: PageState
    arguments: Mapping[str, Any]
    settings: Callable[[], Settings]

    def text(self, name: str) -> str:
        """An argument as text, "" where there is none."""
        value = self.arguments.get(name)
        return "" if value is None else str(value)

    @property
    def job(self) -> Job:
        """The job that it belongs to.

        Raises:
            InputError: there is none.
        """
        return self.services.jobs.known.find(self.text("job"))

    @property
    def job_id(self) -> str:
        """As `job`."""
        return self.job.folder.name


def act(name: str, press: Press) -> PageChange:
    """Do what a button asks for.

    Raises:
        FinetuneError: what stands in the way.
        InputError: there is no such action.
    """
    if name not in _ACTIONS:
        raise InputError([Problem("", f"The page asked for {name!r}, which this version does not know. Reload the page.")])
    return _ACTIONS[name](press) or PageChange()


# -- a job in the queue ------------------------------------------------------------------------------------------------


def _move(press: Press) -> None:
    """Up or down by one place."""
    jobs = press.services.jobs
    order = [job.folder.name for job in jobs.known.waiting()]
    name = press.job_id
    place = order.index(name) if name in order else -1
    if press.text("way") == "up" and place > 0:
        jobs.move(name, order[place - 1])
    elif press.text("way") == "down" and 0 <= place < len(order) - 1:
        jobs.move(order[place + 1], name)


def _clone(press: Press) -> PageChange:
    return PageChange(f"{press.services.trainings.clone(press.job_id, {}).settings.name} waits in the queue.")


# -- a result ----------------------------------------------------------------------------------------------------------


def _show(press: Press) -> None:
    press.page["job"], press.page["feedback"] = press.text("job"), ""


def _older_runs(press: Press) -> None:
    press.page["ended"] = press.page.get("ended", queue.ENDED_AT_ONCE) + queue.ENDED_AT_ONCE


def _go_on(press: Press) -> PageChange:
    return PageChange(f"{press.services.trainings.resume(press.text('job')).settings.name} is resumed.")


def _pick(press: Press) -> PageChange:
    job, step, alone = press.job, int(press.arguments.get("step", -1)), bool(press.arguments.get("alone"))
    press.services.results.pick(job.folder.name, step, delete_others=alone)
    name = job.settings.name
    return PageChange(f"{name} is step {step} now, the other files are deleted." if alone else f"{name} is step {step} now.")


def _feedback(press: Press) -> None:
    press.page["feedback"] = press.services.results.feedback(press.job_id, press.text("answer")).text


def _more(press: Press) -> PageChange:
    steps, step = press.text("steps").strip(), press.text("step")
    if not steps.isdigit() or not int(steps):
        raise InputError([Problem("training.steps", f"{steps!r} is not a number of steps. Write for example 200.")])
    job = press.services.trainings.more(press.job_id, int(steps), int(step) if step.isdigit() else None, press.text("further"))
    return PageChange(f"{job.settings.name} waits in the queue: {steps} more steps.")


def _select(press: Press) -> PageChange:
    job = press.job
    press.services.results.select(job.folder.name)
    return PageChange(f"{job.settings.name} is loaded before the next training begins.")


def _comparison_grid(press: Press) -> PageChange:
    weights = _numbers("weights", press.text("weights") or "0.6, 0.8, 1", float)
    press.services.comparison_grids.of_job(press.job_id, press.text("prompts").splitlines(), weights)
    return PageChange("The images are made before the next training begins; they appear in the place Compare.")


def _numbers(field: str, text: str, kind: Callable[[str], Number]) -> list[Number]:
    """Numbers that were typed with commas between them.

    Raises:
        InputError: one of them is none.
    """
    numbers = []
    for part in filter(None, (part.strip() for part in text.replace(";", ",").split(","))):
        try:
            numbers.append(kind(part))
        except ValueError:
            raise InputError([Problem(field, f"{part!r} is not a number here. Separate several by commas.")]) from None
    return numbers


def _chosen_grid(press: Press) -> BackgroundTask:
    chosen = press.text("chosen").split()
    results, weights = [token for token in chosen if token != grids.BASE], press.text("weights")
    return press.services.comparison_grids.of_choices(
        results,
        _numbers("weights", weights, float),
        press.text("prompts").splitlines(),
        _numbers("seeds", press.text("seeds"), int),
        base=grids.BASE in chosen,
    )


def _comparison_grid_of_group(press: Press) -> PageChange:
    press.services.comparison_grids.of_group(press.text("group"))
    return PageChange("The comparison is made before the next training begins; it appears in the place Compare.")


# -- the form, the images, the storage ---------------------------------------------------------------------------------


def _into_form(press: Press, *, edit: bool) -> PageChange:
    """The settings of a job: of one that waits, to be changed and put back, or of an earlier one."""
    job = press.job
    settings = press.services.trainings.settings_for_form(job, edit=edit)
    press.page["filled"], press.page["editing"] = True, job.folder.name if edit else ""
    return PageChange(settings=settings)


def _import(press: Press) -> PageChange:
    """Settings of a file that the page has sent to our route, which has answered with them."""
    subject, missing = press.arguments.get("subject") is True, press.arguments.get("missing")
    now = Settings() if subject else press.settings()
    settings = press.services.settings_files.for_form(press.arguments.get("settings"), now, subject=subject)
    press.page["filled"] = True
    return PageChange(" ".join(["The settings are in the form.", *map(str, missing if isinstance(missing, list) else ())]), settings)


def _default(press: Press) -> PageChange:
    """One setting back to its default."""
    return PageChange(settings=press.services.presets.default(press.settings(), press.text("path")))


def _caption(press: Press) -> None:
    press.services.datasets.caption(press.text("picture"), press.text("text"))


def _edit_captions(press: Press) -> PageChange:
    how, text, instead = press.text("how"), press.text("text"), press.text("instead")
    outcome = press.services.datasets.edit_captions(press.settings(), how, text, instead, press.text("chosen").split())
    press.page["filled"] = True  # the images are shown anew
    without = f" {outcome['without']} images without a caption of their own stay as they are." if outcome["without"] else ""
    return PageChange(f"{outcome['changed']} captions changed.{without}")


def _undo_captions(press: Press) -> PageChange:
    count = press.services.datasets.undo_captions()
    press.page["filled"] = True
    return PageChange(f"{count} caption files are as they were before.")


def _delete_training(press: Press) -> PageChange:
    name = press.services.library.delete_training(press.job_id)
    return PageChange(f"Everything of {name} is deleted.")


def _delete_class_image(press: Press) -> None:
    press.services.class_images.delete(press.text("folder"), press.text("file"))


def _tool(kind: str, start: Callable[[Press], BackgroundTask], note: str = "") -> Callable[[Press], PageChange]:
    """A form with a background task; what is wrong with its fields is shown there, not above Train.

    Args:
        note: what is said when it has been queued; "": of the file that it makes.
    """

    def act(press: Press) -> PageChange:
        wrong = press.page.setdefault("tool_problems", {})
        wrong.pop(kind, None)
        try:
            task = start(press)
        except InputError as error:
            wrong[kind] = [(problem.field, problem.message) for problem in error.problems]
            return PageChange()
        return PageChange(note or f"{task.about} is made before the next training begins.")

    return act


def _extract(press: Press) -> BackgroundTask:
    files = [press.text(name) for name in ("checkpoint", "base", "name")]
    size = [press.text(name) for name in ("rank", "share")]
    return press.services.lora_tools.extract(*files, *size, conv=press.text("conv") == "conv", precision=press.text("precision"))


def _resize(press: Press) -> BackgroundTask:
    texts = [press.text(name) for name in ("lora", "name", "rank", "share")]
    return press.services.lora_tools.resize(*texts, precision=press.text("precision"))


def _empty(press: Press) -> PageChange:
    return PageChange(f"{press.services.storage.empty(press.text('part')) / 1e6:.1f} MB are free again.")


_ACTIONS: dict[str, Callable[[Press], PageChange | None]] = {
    "pause": lambda press: press.job.control.pause(),
    "resume": lambda press: press.job.control.resume(),
    "cancel": lambda press: press.services.jobs.cancel(press.job_id),
    "forget": lambda press: press.services.jobs.forget(press.job_id),
    "move": _move,
    "clone": _clone,
    "edit": lambda press: _into_form(press, edit=True),
    "hold": lambda press: press.services.jobs.hold(),
    "go": lambda press: press.services.jobs.go(),
    "show": _show,
    "older runs": _older_runs,
    "again": lambda press: _into_form(press, edit=False),
    "go on": _go_on,
    "pick": _pick,
    "verdict": _feedback,
    "more": _more,
    "select": _select,
    "open": lambda press: press.services.results.open_folder(press.job_id),
    "grid": _tool(grids.FORM, _chosen_grid, "The grid is made before the next training begins; it appears below."),
    "sheet": _comparison_grid,
    "group sheet": _comparison_grid_of_group,
    "stop task": lambda press: press.services.jobs.tasks.find(press.text("task")).stop(),
    "import": _import,
    "default": _default,
    "caption": _caption,
    "edit captions": _edit_captions,
    "undo captions": _undo_captions,
    "empty": _empty,
    "extract": _tool(EXTRACT, _extract),
    "resize": _tool(RESIZE, _resize),
    "delete grid": lambda press: press.services.comparison_grids.delete(press.text("grid")),
    "delete file": lambda press: PageChange(f"{press.services.library.delete(press.text('file'))} is deleted."),
    "delete training": _delete_training,
    "delete class image": _delete_class_image,
}
