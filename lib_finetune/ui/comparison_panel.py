"""Comparison grids, and trainings that are compared: the three methods, or values of one setting."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from lib_finetune.ui import form, grids, status
from lib_finetune.ui.components import QUICK, guarded, own

if TYPE_CHECKING:
    from lib_finetune.app.trainings import Trainings
    from lib_finetune.jobs.job import Job
    from lib_finetune.ui.answers import Answers
    from lib_finetune.ui.settings_form import SettingsForm


class ComparisonPanel:
    """
    Attributes:
        choices: what a new grid can show, which the page's script brings to the form of one; the form itself is never filled anew, so that
            nothing typed is lost.
        comparison_grids: the grids that were made. The page's refresh fills both.
    """

    choices: gr.HTML
    comparison_grids: gr.HTML
    _methods: gr.Button
    _path: gr.Dropdown
    _values: gr.Textbox
    _sweep: gr.Button

    def __init__(self, trainings: Callable[[], Trainings], settings: SettingsForm, answers: Answers) -> None:
        self._trainings = trainings
        self._settings = settings
        self._answers = answers

    def build(self) -> None:
        """The components, in the Blocks that are open."""
        swept = form.swept()
        gr.HTML(grids.form(), elem_id="finetune_grid_form")
        self.choices = gr.HTML("", elem_id="finetune_grid_choices")
        self.comparison_grids = gr.HTML("", elem_id="finetune_sheets")
        with gr.Group(elem_id="finetune_compare_part"):
            gr.HTML(
                "<h3>Train and compare</h3><p>Several runs with images and settings of the place Train go into the queue; at the end, "
                "one comparison grid shows them side by side, with size, time, memory, validation loss and colour drift, as far as they are measured.</p>"
            )
            self._methods = own(gr.Button("Train LoRA, DreamBooth and Textual Inversion", size="sm", elem_id="finetune_compare"))
            first = next(shown for shown in swept if form.swept_path(shown) == "network.rank")
            self._path = own(gr.Dropdown(swept, value=first, label="Setting", elem_id="finetune_sweep_path"))
            self._values = own(gr.Textbox("8, 16, 32", label="Values, separated by commas", max_lines=1, elem_id="finetune_sweep_values"))
            self._sweep = own(gr.Button("Train one for each value", size="sm", elem_id="finetune_sweep"))

    def wire(self, message: gr.HTML) -> None:
        """Who is called when."""
        everything = self._settings.components
        self._methods.click(guarded(self.compare), everything, [message], **QUICK)
        self._sweep.click(guarded(self.sweep), [self._path, self._values, *everything], [message], **QUICK)

    def compare(self, *values: Any) -> str:
        """Queue a training with each method."""
        return self._answers.of(lambda: _queued(self._trainings().compare(self._settings.settings_to_train(values))))

    def sweep(self, setting: str, variants: str, *values: Any) -> str:
        """Queue a training for each value of a setting.

        Args:
            setting: of `form.swept`.
            variants: the values, separated by commas.
        """
        path = form.swept_path(setting or "")
        return self._answers.of(
            lambda: _queued(self._trainings().sweep(self._settings.settings_to_train(values), path, variants.split(",")))
        )


def _queued(jobs: list[Job]) -> str:
    return status.note(f"{len(jobs)} jobs are in the queue: {', '.join(job.settings.name for job in jobs)}.")
