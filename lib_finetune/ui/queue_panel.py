"""The jobs that wait, and the results of earlier ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

if TYPE_CHECKING:
    from lib_finetune.jobs.queue import Jobs
    from lib_finetune.ui.page_state import PageState


class QueuePanel:
    """Two accordions that the page's refresh fills.

    Attributes:
        part: the queue's accordion, whose title counts the jobs.
        queue: jobs that wait.
        history: jobs that have ended.
    """

    part: gr.Accordion
    queue: gr.HTML
    history: gr.HTML

    def __init__(self, jobs: Callable[[], Jobs]) -> None:
        self._jobs = jobs

    def build(self) -> None:
        """The components, in the Blocks that are open."""
        with gr.Accordion("Queue", open=False, elem_id="finetune_queue_part") as self.part:
            self.queue = gr.HTML("", elem_id="finetune_queue")
        with gr.Accordion("Results", open=False, elem_id="finetune_history_part"):
            self.history = gr.HTML("", elem_id="finetune_history")

    def title(self, page: PageState) -> Any:
        """How many wait, where the eye is, when that has changed."""
        try:
            count = len(self._jobs().known.waiting())
        except Exception:  # noqa: BLE001  said in the panel already
            return gr.update()
        if page.get("waiting", 0) == count:
            return gr.update()
        page["waiting"] = count
        return gr.update(label=f"Queue ({count})" if count else "Queue")
