"""Comparison grids, and trainings that are compared: the three methods, or values of one setting."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from lib_finetune.ui import form, status
from lib_finetune.ui.components import QUICK, guarded, own

if TYPE_CHECKING:
    from lib_finetune.app.trainings import Trainings
    from lib_finetune.jobs.job import Job
    from lib_finetune.ui.answers import Answers
    from lib_finetune.ui.settings_form import SettingsForm


class ComparisonPanel:
    """
    Attributes:
        comparison_grids: the grids that were made; the page's refresh fills them.
    """

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
        self.comparison_grids = gr.HTML("", elem_id="finetune_sheets")
        with gr.Group(elem_id="finetune_compare_part"):
            gr.HTML(
                "<h3>Train and compare</h3><p>Several runs with the images of the place Train go into the queue; at the end, "
                "one comparison grid shows them side by side, with size, time and memory.</p>"
            )
            with gr.Row():
                self._methods = own(gr.Button("Train LoRA, DreamBooth and Textual Inversion", elem_id="finetune_compare"))
                self._path = own(gr.Dropdown(form.numbers(), value="network.rank", label="Setting", elem_id="finetune_sweep_path"))
                self._values = own(gr.Textbox("8, 16, 32", label="Values", max_lines=1, elem_id="finetune_sweep_values"))
                self._sweep = own(gr.Button("Train one for each value", elem_id="finetune_sweep"))

    def wire(self, message: gr.HTML) -> None:
        """Who is called when."""
        everything = self._settings.components
        self._methods.click(guarded(self.compare), everything, [message], **QUICK)
        self._sweep.click(guarded(self.sweep), [self._path, self._values, *everything], [message], **QUICK)

    def compare(self, *values: Any) -> str:
        """Queue a training with each method."""
        return self._answers.of(lambda: _queued(self._trainings().compare(self._settings.settings_to_train(values))))

    def sweep(self, path: str, variants: str, *values: Any) -> str:
        """Queue a training for each value of a setting.

        Args:
            variants: the values, separated by commas.
        """
        return self._answers.of(
            lambda: _queued(self._trainings().sweep(self._settings.settings_to_train(values), path, variants.split(",")))
        )


def _queued(jobs: list[Job]) -> str:
    return status.note(f"{len(jobs)} jobs are in the queue: {', '.join(job.settings.name for job in jobs)}.")
