"""Runs as cards, and storage, as HTML. No gradio here, so that it is tested as text."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from lib_finetune.jobs.states import ACTIVE, ENDED
from lib_finetune.ui import markup
from lib_finetune.ui.html import duration, picture_url
from lib_finetune.ui.status import METHODS, STATES

ENDED_AT_ONCE = 20
"""So many ended runs are listed, and so many more at each press."""
_NONE_WAITS = (
    '<h3>Running and waiting</h3><div class="finetune-empty"><p>No run waits. Press Train while one runs, and it is added here.</p></div>'
)
_NONE_ENDED = '<h3>Ended</h3><div class="finetune-empty"><p>Nothing has been trained yet.</p></div>'


def queue(overview: Mapping[str, Any], key: str, chosen: str = "") -> str:
    """Runs that are going on, and those that wait, next first, with what can be done with them.

    Args:
        overview: `Trainings.overview`.
        key: opens the images.
        chosen: id of the run that the page shows.
    """
    jobs = {job["id"]: job for job in overview["jobs"]}
    active = [_card(job, key, "active") for job in overview["jobs"] if job["state"] in ACTIVE]
    last = len(overview["queue"]) - 1
    waiting = [
        {**_card(jobs[name], key, "waiting"), "first": place == 0, "last": place == last} for place, name in enumerate(overview["queue"])
    ]
    if not active and not waiting:
        return _NONE_WAITS
    held = waiting and overview["held"]
    notice = "The queue is held; runs that waited when the WebUI was ended do not begin by themselves." if held else ""
    lost = overview.get("lost") or ""
    return markup.render(
        "queue",
        runs=[*active, *waiting],
        chosen=chosen,
        key=key,
        notice=lost or notice,
        hold=bool(waiting) and not overview["held"] and not lost,
        go=bool(held) and not lost,
    )


def history(overview: Mapping[str, Any], key: str, chosen: str = "", count: int = ENDED_AT_ONCE) -> str:
    """Runs that have ended, newest first; arguments as of `queue`.

    Args:
        count: so many are shown, and the chosen one; the others have a button.
    """
    ended = [job for job in overview["jobs"] if job["state"] in ENDED and job["state"] != "discarded"]
    if not ended:
        return _NONE_ENDED
    ended.sort(key=lambda job: -job["ended"] or -job["created"])
    shown = [job for place, job in enumerate(ended) if place < count or job["id"] == chosen]
    runs = [_card(job, key, "ended") for job in shown]
    return markup.render("history", runs=runs, older=len(ended) - len(shown), chosen=chosen, key=key)


def _card(job: Mapping[str, Any], key: str, kind: str) -> dict[str, Any]:
    damaged = job["state"] == "damaged"
    took = f"{job['steps']} steps, {duration(max(0.0, job['ended'] - job['started']))}, {_when(job['ended'])}" if job["steps"] else ""
    return {
        "id": job["id"],
        "name": job["name"],
        "method": METHODS[job["method"]],
        "state": STATES.get(job["state"], job["state"]),
        "figures": job["message"] if damaged else took or job["message"][:80],
        "cover": f"{picture_url(key, 'jobs', job['id'], 'cover')}&n={len(job.get('previews', ()))}",
        "arguments": json.dumps({"job": job["id"]}),
        "kind": kind,
        "can_go_on": job["can_go_on"],
        "call": job["call"] if job["files"] and job["method"] != "dreambooth" else "",
        "whole": not damaged,
        "first": True,
        "last": True,
    }


def _when(ended: float) -> str:
    """Time of day, with the date where it is another."""
    then, now = time.localtime(ended), time.localtime()
    return time.strftime("%H:%M" if then[:3] == now[:3] else "%Y-%m-%d %H:%M", then)


def storage(parts: Sequence[Mapping[str, Any]]) -> str:
    """What Finetune's folder holds, and how it is emptied."""
    return markup.render("storage", parts=parts, total=sum(part["size"] for part in parts))
