"""Which job a page shows, and which buttons it offers for it. No gradio here, so that it is tested by values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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


def follow(page: PageState, job: Mapping[str, Any] | None, known: Collection[str]) -> None:
    """Have the page show a job: the one that was chosen, else the one that runs or ran last.

    Args:
        job: `Trainings.view` of the one that runs or ran last; None where there is none.
        known: ids of all jobs.
    """
    # Whoever looks at the last run, going on or ended, sees the next one when it starts; an earlier run that is open stays open.
    watched = page.get("job", "") in ("", page.get("followed", "")) or page.get("job") not in known
    if job is not None and watched and page.get("job") != job["id"]:
        page["job"], page["feedback"] = job["id"], ""
    if job is None:
        page["job"] = ""
    page["followed"] = job["id"] if job else ""
    page["shown"] = page.get("job", "")


def visible_controls(job: Mapping[str, Any] | None, *, active: bool) -> dict[str, bool]:
    """Which of the buttons are there: those of `CONTROLS`, and "load"."""
    state = job["state"] if job else ""
    steerable = active and job is not None and not job["stopping"]
    visible = dict.fromkeys(CONTROLS, steerable) | {"load": state == "waiting"}
    return visible | {"pause": steerable and state == "running", "resume": steerable and state == "paused"}
