"""The job that runs: its status, the buttons that steer it, its result, and runs that wait to be continued."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from lib_finetune.access import page_key
from lib_finetune.app.about import memory_of
from lib_finetune.ui import cards, gallery, outcome, status
from lib_finetune.ui.components import QUICK, guarded, own
from lib_finetune.ui.page_state import PageState
from lib_finetune.ui.shown_job import CONTROLS

if TYPE_CHECKING:
    from lib_finetune.app.results import Results
    from lib_finetune.app.trainings import Trainings
    from lib_finetune.jobs.job import Job
    from lib_finetune.jobs.queue import Jobs
    from lib_finetune.ui.answers import Answers
    from lib_finetune.ui.page_hooks import PageHooks

_log = logging.getLogger(__name__)
_PRESSED: dict[str, Callable[[Job], None]] = {
    "pause": lambda job: job.control.pause(),
    "resume": lambda job: job.control.resume(),
    "preview": lambda job: job.press("preview"),
    "save": lambda job: job.press("save"),
    "keep": lambda job: job.control.stop(keep=True),
    "discard": lambda job: job.control.stop(keep=False),
    "load": lambda job: job.control.load_checkpoint(),
}
_WEBUI_ENDS_IT = (
    "Apply and restart UI (or Apply and quit), on the WebUI's page Extensions, ends the WebUI and this training with it; the training then "
    "resumes from its last saved state. Reload UI does not end it."
)


class JobPanel:
    """The run that a page shows.

    Attributes:
        buttons: those of `CONTROLS`, and "load".
        views: what the page's refresh fills: "panel" (how it stands), "plot" (and log), "film" (previews) and "outcome" (a result and what
            can be done with it).
    """

    views: dict[str, gr.HTML]
    _unfinished: gr.Dropdown
    _continue: gr.Button

    def __init__(
        self,
        jobs: Callable[[], Jobs],
        trainings: Callable[[], Trainings],
        results: Callable[[], Results],
        answers: Answers,
        *,
        in_webui: bool = False,
    ) -> None:
        """
        Args:
            in_webui: whether the WebUI's own buttons can end a training.
        """
        self._jobs = jobs
        self._trainings = trainings
        self._results = results
        self._answers = answers
        self._warning = _WEBUI_ENDS_IT if in_webui else ""
        self.buttons: dict[str, gr.Button] = {}

    def build(self) -> None:
        """The components, in the Blocks that are open."""
        panel = gr.HTML(status.render(None, None), elem_id="finetune_panel")
        with gr.Row(elem_id="finetune_controls"):
            for name, label in CONTROLS.items():
                self.buttons[name] = own(gr.Button(label, size="sm", visible=False, elem_id=f"finetune_{name}"))
            self.buttons["load"] = own(gr.Button("Load the checkpoint and resume", size="sm", visible=False, elem_id="finetune_load"))
        others = {name: gr.HTML("", elem_id=f"finetune_{name}") for name in ("plot", "film", "outcome")}
        self.views = {"panel": panel, **others}

    def build_unfinished(self) -> None:
        """The list of runs that can be resumed, for another place of the page."""
        self._unfinished = own(gr.Dropdown([], label="Unfinished runs", visible=False, interactive=True, elem_id="finetune_unfinished"))
        self._continue = own(gr.Button("Resume this run", visible=False, elem_id="finetune_continue"))

    def wire(self, hooks: PageHooks, message: gr.HTML) -> None:
        """Who is called when."""
        for name, button in self.buttons.items():
            button.click(guarded(self.press(name)), [hooks.page], [message], **QUICK)
        runs = [self._unfinished, self._continue]
        continued = self._continue.click(guarded(self.resume), [self._unfinished], [message], **QUICK)
        continued.then(guarded(self.unfinished), [], runs, **QUICK)
        hooks.first.click(guarded(self.unfinished), [], runs, **QUICK)

    def press(self, name: str) -> Callable[[PageState], str]:
        """What a button above the status does: it means the job that this page shows, which need not be the one that runs by now."""

        def handler(page: PageState) -> str:
            return self._answers.of(lambda: self._pressed(page.get("shown", ""), _PRESSED[name]))

        return handler

    def _pressed(self, shown: str, press: Callable[[Job], None]) -> str:
        if not shown:
            return ""
        job = self._jobs().known.find(shown)
        if job.ended:
            return status.note(f"{job.settings.name} has ended already; nothing was changed.")
        press(job)
        return ""

    def resume(self, name: str) -> str:
        """Continue an unfinished run."""
        return self._answers.of(lambda: status.note(f"{self._trainings().resume(name or '').settings.name} is resumed."))

    def unfinished(self) -> tuple[Any, Any]:
        """Updates of the list of unfinished runs, and of the button that continues one."""
        try:
            names = self._trainings().unfinished()
        except Exception:  # noqa: BLE001  an edge: shown or logged
            _log.debug("Unfinished runs cannot be listed", exc_info=True)
            names = []
        return gr.update(choices=names, value=names[0] if names else None, visible=bool(names)), gr.update(visible=bool(names))

    def shown(self, job: Mapping[str, Any] | None, feedback: str, *, active: bool) -> dict[str, str]:
        """HTML of `views` for a job.

        Args:
            job: `Trainings.view`; None for no job.
            feedback: the answer to "Too weak" or "Overdone", or "".
            active: whether it has not ended.
        """
        key = page_key()
        memory = dataclasses.asdict(memory_of(self._jobs().host)) if active else None
        return {
            "panel": status.render(job, memory) + (status.hint(self._warning) if active and self._warning else ""),
            "plot": status.plot(job, key),
            "film": status.film(job["id"], job.get("previews", ()), key) if job else "",
            "outcome": self.outcome_html(job, feedback),
        }

    def tasks_html(self, overview: Mapping[str, Any]) -> str:
        """The forecast, and the captions that are being written.

        Args:
            overview: `Trainings.overview`.
        """
        tasks = overview["errands"]
        forecast = next((task for task in reversed(tasks) if task["kind"] == "forecast"), None)
        captions = next((task for task in tasks[-1:] if task["kind"] == "captions"), None)
        failed = [task["message"] for task in tasks[-1:] if task["kind"] == "select" and task["state"] == "failed"]
        return cards.forecast(forecast) + gallery.captions(captions) + status.problems(failed)

    def outcome_html(self, job: Mapping[str, Any] | None, feedback: str) -> str:
        """The result of a job.

        Args:
            job: `Trainings.view`; None for no job.
            feedback: the answer to "Too weak" or "Overdone", or "".
        """
        if job is None:
            return ""
        if job["state"] not in outcome.ENDINGS:
            return outcome.render(job, feedback, page_key())
        suggested = self._results().next_step(job["id"])
        more = {"states": self._trainings().kept_states(job["id"]), "next": suggested.text if suggested else ""}
        return outcome.render({**job, **more}, feedback, page_key())
