"""Which job a page shows, and which buttons it offers for it. No gradio here, so that it is tested by values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib_finetune.ui.page_state import PageState

CONTROLS = {
    "pause": "Pause",
    "resume": "Resume",
    "preview": "Preview now",
    "save": "Save now",
    "keep": "Stop and keep",
    "discard": "Stop and discard",
}
"""Buttons above a job's status: name → label."""


def follow(page: PageState, job: Mapping[str, Any] | None, *, active: bool) -> None:
    """Have the page show a job.

    Args:
        job: `Trainings.view` of the one that runs or ran last; None where there is none.
        active: whether it has not ended.
    """
    # A job that ends is shown, whatever was looked at before.
    ended = job is not None and page.get("running") == job["id"] and job["state"] not in ("running", "waiting", "paused", "queued")
    if job is not None and (ended or "job" not in page):
        page["job"], page["feedback"] = job["id"], ""
    page["running"] = job["id"] if job and active else ""
    page["shown"] = job["id"] if job else ""


def visible_controls(job: Mapping[str, Any] | None, *, active: bool) -> dict[str, bool]:
    """Which of the buttons are there: those of `CONTROLS`, and "load"."""
    state = job["state"] if job else ""
    steerable = active and job is not None and not job["stopping"]
    visible = dict.fromkeys(CONTROLS, steerable) | {"load": state == "waiting"}
    return visible | {"pause": steerable and state == "running", "resume": steerable and state == "paused"}
