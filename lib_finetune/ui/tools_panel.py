"""What is told of this installation, and the report for an issue."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import gradio as gr

from lib_finetune.access import page_key
from lib_finetune.ui import markup
from lib_finetune.ui.html import size

if TYPE_CHECKING:
    from lib_finetune.app.services import Services
    from lib_finetune.ui.answers import Answers


class ToolsPanel:
    """
    Attributes:
        about: the installation; the page's refresh fills it where the place is looked at.
    """

    about: gr.HTML

    def __init__(self, services: Callable[[], Services], answers: Answers) -> None:
        self._services = services
        self._answers = answers

    def build(self) -> None:
        """The components, in the Blocks that are open."""
        self.about = gr.HTML("", elem_id="finetune_about")

    def html(self) -> str:
        """Version, checkpoint, device and memory."""
        return self._answers.of(self._html)

    def _html(self) -> str:
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
