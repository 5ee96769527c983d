"""What javascript/finetune.js presses and writes: components that nobody sees."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from lib_finetune.ui.components import own


@dataclass(frozen=True)
class PageHooks:
    """
    Attributes:
        act: does what ``action`` asks for.
        refresh: asks what has changed. Not `every=`: gradio 3.41 never ends that stream when the page goes away, and the WebUI's
            Reload UI then waits for it for ever.
        look: shows the images of the form anew.
        first: pressed when the tab is looked at for the first time: a WebUI that is opened for something else loads nothing of ours.
        action: a button of the page's own, as JSON.
        restored: the settings of the last training, as JSON.
        place: which of the five places is looked at.
        page: the `PageState` of each page.
    """

    act: gr.Button
    refresh: gr.Button
    look: gr.Button
    first: gr.Button
    action: gr.Textbox
    restored: gr.Textbox
    place: gr.Textbox
    page: gr.State


def build() -> PageHooks:
    """The components, in the Blocks that are open."""
    return PageHooks(
        act=_button("act"),
        refresh=_button("refresh"),
        look=_button("look"),
        first=_button("first"),
        action=_text("action"),
        restored=_text("restored"),
        place=_text("place"),
        page=gr.State({}),
    )


def _button(name: str) -> gr.Button:
    return own(gr.Button(name, visible=False, elem_id=f"finetune_{name}"))


def _text(name: str) -> gr.Textbox:
    return own(gr.Textbox("", visible=False, elem_id=f"finetune_{name}"))
