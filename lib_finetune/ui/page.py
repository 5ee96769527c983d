"""The tab as a page of its own, for use without the WebUI."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.staticfiles import StaticFiles

from lib_finetune.ui.tab import Tab

_ROOT = Path(__file__).resolve().parents[2]
_SCRIPTS = _ROOT / "javascript"
LIBRARIES = _SCRIPTS / "third_party"
_WIDE = ".gradio-container { max-width: 1700px !important; }"


def scripts() -> str:
    """Our scripts in the order in which the WebUI loads them, without the one that translates the WebUI's page."""
    files = sorted(file for file in _SCRIPTS.glob("*.js") if file.stem != "finetune_localization")
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def mounted(app: Any, services: Callable[[], Any], missing: Callable[[], list[str]]) -> Any:
    """The page at the root of a FastAPI application, with the scripts and style that the WebUI would load."""
    style = (_ROOT / "style.css").read_text(encoding="utf-8")
    with gr.Blocks(title="Finetune", css=style + _WIDE, analytics_enabled=False) as page:
        Tab(services, missing).fill()
        done = gr.Textbox(visible=False)  # gradio's page wants something to write the answer to
        page.load(None, [], [done], _js=f"() => {{ {scripts()}; return ''; }}")
    app.mount("/finetune/third_party", StaticFiles(directory=LIBRARIES))
    mounted = gr.mount_gradio_app(app, page, path="/")
    # Gradio lets pages of any site read every answer.
    mounted.routes[-1].app.user_middleware.clear()
    return mounted
