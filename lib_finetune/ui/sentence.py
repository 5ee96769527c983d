"""The tab where nothing can be trained: one sentence and no fields."""

from __future__ import annotations

from html import escape

import gradio as gr


def tab(text: str) -> gr.Blocks:
    """Blocks that hold a sentence; of gradio 3 and 4 alike."""
    with gr.Blocks(analytics_enabled=False) as blocks:
        gr.HTML(f'<div role="alert">{escape(text)}</div>')
    return blocks
