"""The tab as a page of its own, for use without the WebUI."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from lib_finetune.ui.tab import Tab

_ROOT = Path(__file__).resolve().parents[2]


def mounted(app: Any, services: Callable[[], Any], missing: Callable[[], list[str]]) -> Any:
    """The page at the root of a FastAPI application, with the script and style that the WebUI would load."""
    style = (_ROOT / "style.css").read_text(encoding="utf-8")
    script = (_ROOT / "javascript" / "finetune.js").read_text(encoding="utf-8")
    with gr.Blocks(title="Finetune", css=style, analytics_enabled=False) as page:
        Tab(services, missing).fill()
        done = gr.Textbox(visible=False)  # gradio's page wants something to write the answer to
        page.load(None, [], [done], _js=f"() => {{ {script}; return ''; }}")
    mounted = gr.mount_gradio_app(app, page, path="/")
    # Gradio lets pages of any site read every answer.
    mounted.routes[-1].app.user_middleware.clear()
    return mounted
