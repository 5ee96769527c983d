"""The start of a training: its name, a forecast, and Train."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from lib_finetune.ui import status
from lib_finetune.ui.components import QUICK, guarded, own
from lib_finetune.ui.page_state import PageState

if TYPE_CHECKING:
    from lib_finetune.app.method_advisor import MethodAdvisor
    from lib_finetune.app.trainings import Trainings
    from lib_finetune.jobs.job import Job
    from lib_finetune.jobs.queue import Jobs
    from lib_finetune.ui.answers import Answers
    from lib_finetune.ui.page_hooks import PageHooks
    from lib_finetune.ui.settings_form import SettingsForm


class StartPanel:
    """Step 4 of the first screen.

    Attributes:
        message: where the answers to all buttons stand.
    """

    message: gr.HTML
    _forecast: gr.Button
    _train: gr.Button

    def __init__(
        self,
        trainings: Callable[[], Trainings],
        advisor: Callable[[], MethodAdvisor],
        jobs: Callable[[], Jobs],
        settings: SettingsForm,
        answers: Answers,
    ) -> None:
        self._trainings = trainings
        self._advisor = advisor
        self._jobs = jobs
        self._settings = settings
        self._answers = answers

    def build(self) -> None:
        """The components, in the Blocks that are open."""
        with gr.Row(elem_id="finetune_start"):
            name = gr.Textbox(label="4  Name of the result", placeholder="my-cat", max_lines=1, scale=4, elem_id="finetune_name")
            self._settings.on_top("name", name)
            self._forecast = own(gr.Button("Forecast", scale=1, elem_id="finetune_forecast"))
            self._train = own(gr.Button("Train", variant="primary", scale=2, elem_id="finetune_train"))
        self.message = gr.HTML("", elem_id="finetune_message")

    def wire(self, hooks: PageHooks) -> None:
        """Who is called when."""
        everything = self._settings.components
        self._train.click(guarded(self.train), [hooks.page, *everything], [self.message], **QUICK)
        self._forecast.click(guarded(self.forecast), everything, [self.message], **QUICK)

    def train(self, page: PageState, *values: Any) -> str:
        """Queue a training, or change the one whose settings were taken into the form."""

        def start() -> str:
            job, edited = self._trainings().train(self._settings.settings_to_train(values), page.get("editing", ""))
            page["editing"] = ""
            if edited:
                return status.note(f"{job.settings.name} waits with its new settings.")
            return status.note(self._begun(job))

        return self._answers.of(start)

    def _begun(self, job: Job) -> str:
        """What becomes of a job that was just added."""
        jobs = self._jobs()
        name, ahead = job.settings.name, jobs.known.ahead_of(job)
        if lost := jobs.lost:
            return f"{name} waits. {lost}"
        if jobs.held:
            return f"{name} waits: the queue is held. Press Start the queue in the place Runs."
        if ahead:
            return f"{name} waits in the queue; {ahead} before it."
        return f"{name} has been started; it continues when this page is closed."

    def forecast(self, *values: Any) -> str:
        """Have two steps tried out."""

        def start() -> str:
            self._advisor().forecast(self._settings.settings_to_train(values))
            return status.note("Two steps are tried out; the forecast appears beneath the images.")

        return self._answers.of(start)
