"""The runs of this WebUI: those that run or wait, and those that have ended."""

from __future__ import annotations

import gradio as gr


class QueuePanel:
    """Two lists that the page's refresh fills.

    Attributes:
        queue: runs that run or wait.
        history: runs that have ended.
    """

    queue: gr.HTML
    history: gr.HTML

    def build(self) -> None:
        """The components, in the Blocks that are open."""
        self.queue = gr.HTML("", elem_id="finetune_queue")
        self.history = gr.HTML("", elem_id="finetune_history")
