"""The tools: a LoRA extracted, a LoRA resized; the state of this installation, and the report for an issue."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import gradio as gr

from lib_finetune.access import page_key
from lib_finetune.app.lora_tools import EXTRACT, RESIZE
from lib_finetune.ui import markup, tool_forms
from lib_finetune.ui.html import size

if TYPE_CHECKING:
    from lib_finetune.app.services import Services
    from lib_finetune.ui.answers import Answers


class ToolsPanel:
    """
    Attributes:
        about: what became of the tools, and the installation; the page's refresh fills it where the place is looked at, and the page's script
            brings each tool's part to its form. The forms themselves are never filled anew, so that nothing typed is lost.
    """

    about: gr.HTML

    def __init__(self, services: Callable[[], Services], answers: Answers) -> None:
        self._services = services
        self._answers = answers

    def build(self) -> None:
        """The components, in the Blocks that are open."""
        gr.HTML(tool_forms.forms(), elem_id="finetune_tools")
        self.about = gr.HTML("", elem_id="finetune_about")

    def html(self, problems: Mapping[str, Sequence[tuple[str, str]]]) -> str:
        """The tools' last tasks, the files that their fields propose, version, checkpoint, device and memory.

        Args:
            problems: tool → (field, message) of what was wrong with what this page asked of it.
        """
        return self._answers.of(lambda: self._tools(problems)) + self._answers.of(self._about)

    def _tools(self, problems: Mapping[str, Sequence[tuple[str, str]]]) -> str:
        services = self._services()
        last = {task.kind: task.status() for task in services.jobs.tasks.all()}
        states = {tool: tool_forms.state(last.get(tool), problems.get(tool, ())) for tool in (EXTRACT, RESIZE)}
        return tool_forms.answers(states, services.lora_tools.choices())

    def _about(self) -> str:
        from lib_finetune.app.about import about

        services = self._services()
        facts = about(services.host, services.jobs.lost)
        rows = [
            ("Finetune", facts["version"]),
            ("Checkpoint", facts["checkpoint"] or "none"),
            ("VAE", facts["vae"] or "of the checkpoint"),
            ("Device", facts["device"]),
            ("Memory in all", size(facts["memory"]["total"])),
            ("Folder", str(services.host.paths.data)),
        ]
        return markup.render("about", rows=rows, refusals=facts["refusals"], key=page_key())
