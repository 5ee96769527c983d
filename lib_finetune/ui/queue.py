"""The queue, earlier jobs, sheets and storage as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from lib_finetune.ui.html import button, picture_url, size, table
from lib_finetune.ui.status import STATES, duration

METHODS = {"lora": "LoRA", "dreambooth": "DreamBooth", "textual_inversion": "Textual Inversion", "pivotal_tuning": "Pivotal tuning"}


def queue(overview: Mapping[str, Any]) -> str:
    """Jobs that wait, next first, with what can be done with them."""
    jobs = {job["id"]: job for job in overview["jobs"]}
    waiting = [jobs[name] for name in overview["queue"]]
    if not waiting:
        return '<div class="finetune-empty">No job waits. Press Train while one runs, and it is added here.</div>'
    rows = [[str(place), _name(job), _method(job), _queue_buttons(job, place, len(waiting))] for place, job in enumerate(waiting, start=1)]
    held = button("Start the queue", "go", primary=True) if overview["held"] else button("Hold the queue", "hold")
    notice = "The queue is held; jobs that waited when the WebUI was ended do not begin by themselves." if overview["held"] else ""
    if overview.get("lost"):
        held, notice = "", escape(overview["lost"])
    return f"<p>{notice}</p>" * bool(notice) + table(["", "name", "method", ""], rows, "queue") + f'<div class="finetune-row">{held}</div>'


def _queue_buttons(job: Mapping[str, Any], place: int, count: int) -> str:
    name = job["id"]
    moves = [button("↑", "move", job=name, way="up", help_text="earlier")] * (place > 1)
    moves += [button("↓", "move", job=name, way="down", help_text="later")] * (place < count)
    edit = button("Edit", "edit", job=name, help_text="its settings go into the form; Train puts them back")
    return " ".join([*moves, edit, button("Clone", "clone", job=name), button("Cancel", "cancel", job=name)])


def history(overview: Mapping[str, Any]) -> str:
    """Jobs that have ended, newest first."""
    ended = [job for job in overview["jobs"] if job["state"] in ("done", "stopped", "failed", "interrupted", "damaged")]
    if not ended:
        return '<div class="finetune-empty">Nothing has been trained yet.</div>'
    rows = [
        [_name(job), _method(job), escape(STATES.get(job["state"], job["state"])), _steps_taken(job), _history_buttons(job)]
        for job in sorted(ended, key=lambda job: -job["ended"] or -job["created"])
    ]
    return table(["name", "method", "state", "made", ""], rows, "earlier jobs")


def _steps_taken(job: Mapping[str, Any]) -> str:
    if job["state"] == "damaged":
        return escape(job["message"])
    seconds = max(0.0, job["ended"] - job["started"])  # a clock may have been set back meanwhile
    took = f"{job['steps']} steps in {duration(seconds)}" if job["steps"] else ""
    return f'<span title="{escape(job["message"])}">{escape(took or job["message"][:80])}</span>'


def _history_buttons(job: Mapping[str, Any]) -> str:
    name, buttons = job["id"], []
    if job["can_go_on"]:
        buttons.append(button("Resume", "go on", job=name, primary=True))
    if job["choices"]:
        buttons.append(button("Show", "show", job=name, help_text="its images, snapshots and what can be done with them"))
    if job["state"] != "damaged":
        buttons.append(button("Train again", "again", job=name, help_text="its settings go into the form"))
    sure = "Delete its log, saved states and previews? Results in the WebUI's folders stay."
    return " ".join([*buttons, button("Forget", "forget", job=name, sure=sure)])


def _name(job: Mapping[str, Any]) -> str:
    return f"<b>{escape(job['name'])}</b>"


def _method(job: Mapping[str, Any]) -> str:
    return escape(METHODS[job["method"]])


def comparison_grids(names: Sequence[str], tasks: Sequence[Mapping[str, Any]], key: str) -> str:
    """Comparison grids, newest first, and those that are being made."""
    going = [task for task in tasks if task["kind"] == "sheet" and task["state"] in ("queued", "running")]
    failed = [task for task in tasks[-1:] if task["kind"] == "sheet" and task["state"] == "failed"]
    parts = [f'<div class="finetune-problems">{escape(task["message"])}</div>' for task in failed]
    for task in going:
        done = f"{task['done']} of {task['total']} images" if task["total"] else "waits for its turn"
        parts.append(f"<div><span>A comparison grid is being made: {done}</span> {button('Stop', 'stop task', task=task['id'])}</div>")
    for name in names[:6]:
        address = picture_url(key, "sheets", name)
        parts.append(
            f'<a href="{address}" target="_blank"><img class="finetune-sheet" src="{address}" alt="sheet {escape(name)}" loading="lazy"></a>'
        )
    return "".join(parts) or '<div class="finetune-empty">No comparison grids yet. "Compare" on a result makes one.</div>'


def storage(parts: Sequence[Mapping[str, Any]]) -> str:
    """What Finetune's folder holds, and how it is emptied."""
    rows = []
    for part in parts:
        sure = f"Empty {part['name']}? ({part['holds']})"
        empty = button("Empty", "empty", part=part["name"], sure=sure) if part["size"] else ""
        rows.append([escape(part["name"]), escape(part["holds"]), size(part["size"]), empty])
    return table(["", "holds", "size", ""], rows, "storage") + f"<p>{size(sum(part['size'] for part in parts))} in all.</p>"
