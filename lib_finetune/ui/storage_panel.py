"""What lies in Finetune's folder, measured when asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import gradio as gr

from lib_finetune.ui import queue
from lib_finetune.ui.components import guarded, own

if TYPE_CHECKING:
    from lib_finetune.app.storage import Storage
    from lib_finetune.ui.answers import Answers


class StoragePanel:
    """The foot of the library."""

    _parts: gr.HTML
    _measure: gr.Button

    def __init__(self, storage: Callable[[], Storage], answers: Answers) -> None:
        self._storage = storage
        self._answers = answers

    def build(self) -> None:
        """The components, in the Blocks that are open."""
        self._parts = gr.HTML("<h3>Storage</h3>", elem_id="finetune_storage")
        self._measure = own(gr.Button("Measure", size="sm", elem_id="finetune_measure"))

    def wire(self) -> None:
        """Who is called when."""
        self._measure.click(guarded(self.measure), [], [self._parts], queue=False)

    def measure(self) -> str:
        """The folder's parts and their sizes."""
        return self._answers.of(lambda: queue.storage(self._storage().parts()))
