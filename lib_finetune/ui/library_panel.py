"""The files made here as cards, the class images, and what the folder takes of the disk."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import gradio as gr

from lib_finetune.access import page_key
from lib_finetune.ui import library

if TYPE_CHECKING:
    from lib_finetune.app.class_gallery import ClassImages
    from lib_finetune.app.library import Library
    from lib_finetune.ui.answers import Answers
    from lib_finetune.ui.storage_panel import StoragePanel

_log = logging.getLogger(__name__)


class LibraryPanel:
    """
    Attributes:
        files: the cards, which the page's refresh fills where the place is looked at.
        class_images: images of the class in general.
    """

    files: gr.HTML
    class_images: gr.HTML

    def __init__(
        self, files: Callable[[], Library], class_images: Callable[[], ClassImages], storage: StoragePanel, answers: Answers
    ) -> None:
        """
        Args:
            storage: stands beneath them.
        """
        self._files = files
        self._class_images = class_images
        self._storage = storage
        self._answers = answers

    def build(self) -> None:
        """The components, in the Blocks that are open."""
        self.files = gr.HTML("", elem_id="finetune_library")
        self.class_images = gr.HTML("", elem_id="finetune_class_images")
        self._storage.build()

    def html(self) -> dict[str, str]:
        """HTML of both, from the folders as they are now."""
        key = page_key()
        return {
            "library": self._answers.of(lambda: library.files(self._files().entries(), key)),
            "class_images": self._answers.of(lambda: library.class_images(self._class_images().sets(), key)),
        }
