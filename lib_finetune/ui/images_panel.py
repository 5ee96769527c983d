"""The training images: their folder, what they show, and the words that stand for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from lib_finetune.access import page_key
from lib_finetune.app import upload_limits
from lib_finetune.ui import form, html
from lib_finetune.ui.components import own

if TYPE_CHECKING:
    from lib_finetune.ui.settings_form import SettingsForm

_LIMITS = {
    "file": upload_limits.FILE_BYTES,
    "files": upload_limits.FILES,
    "drop": upload_limits.DROP_BYTES,
    "said": upload_limits.LIMITS,
}


class ImagesPanel:
    """Steps 1 and 2 of the first screen.

    Attributes:
        summary: the line under the folder.
        drawn: photo or drawn, asked of a person alone.
        wish: what matters most.
    """

    summary: gr.HTML
    drawn: gr.Radio
    wish: gr.Dropdown

    def __init__(self, settings: SettingsForm) -> None:
        self._settings = settings
        self._texts: list[gr.Textbox] = []
        self._choices: list[Any] = []

    def build(self) -> None:
        """The components, in the Blocks that are open."""
        from lib_finetune.app.dropped_files import sent_endings  # it asks Pillow, which the tab's module does without

        with gr.Group():
            images = self._text("images", "1  Training images: a folder", "/home/me/pictures/cat")
            # Not gradio's own: it copies whatever file of this machine a request names, before we are asked.
            gr.HTML(
                html.drop("pictures", "or drop images (and captions) here", page_key(), {**_LIMITS, "endings": sent_endings()}),
                elem_id="finetune_files",
            )
            self.summary = gr.HTML("", elem_id="finetune_found")
        with gr.Group():
            kind = self._settings.on_top("kind", gr.Radio(form.KINDS, value="", label="2  What do they show?", elem_id="finetune_kind"))
            self.drawn = self._settings.on_top(
                "drawn", gr.Radio(form.DRAWN, value="", label="Photo or drawn?", visible=False, elem_id="finetune_drawn")
            )
            with gr.Row():
                trigger = self._text("trigger", "Trigger word", "zxq")
                class_word = self._text("class_word", "Class word (optional)", "cat")
                self.wish = own(gr.Dropdown(form.WISHES, value=form.NO_WISH, label="What matters most?", elem_id="finetune_wish"))
        self._texts, self._choices = [images, trigger, class_word], [kind, self.drawn, self.wish]

    def _text(self, name: str, label: str, placeholder: str) -> gr.Textbox:
        return self._settings.on_top(name, gr.Textbox(label=label, placeholder=placeholder, max_lines=1, elem_id=f"finetune_{name}"))

    def wire(self, after_change: Callable[[Callable[..., Any]], None]) -> None:
        """
        Args:
            after_change: as `SettingsForm.wire`.
        """
        for field in self._texts:
            after_change(field.submit)
            after_change(field.blur)
        for choice in self._choices:
            after_change(choice.change)
