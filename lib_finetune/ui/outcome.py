"""What a job made, as HTML: its files by step, how to use them, what to do when it is too weak or overdone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib_finetune.ui import markup
from lib_finetune.ui.html import picture_url

ENDINGS = ("done", "stopped", "interrupted", "failed")


def render(job: Mapping[str, Any] | None, feedback: str = "", key: str = "") -> str:
    """The result of a job, or nothing.

    Args:
        job: `Trainings.view`, with "states": steps whose states were kept, and "next": what its figures suggest, or "".
        feedback: the answer to "Too weak" or "Overdone", shown beside it.
        key: opens the files.
    """
    if job is None or not job["choices"] or job["state"] not in ENDINGS:
        return ""
    states = job.get("states", ())
    return markup.render(
        "outcome",
        job=job,
        key=key,
        files=[_file(job, kind, path, key) for kind, path in job["files"].items()],
        snapshots=[
            {"step": int(step), "bytes": sum(map(_bytes, files.values())), "is_result": int(step) == job["steps"]}
            for step, files in job["choices"].items()
        ],
        states=states,
        state=job["steps"] if job["steps"] in states else max(states, default=0),
        has_weights="lora" in {kind for files in job["choices"].values() for kind in files},
        suggested=job.get("next", ""),
        feedback=feedback,
    )


def _file(job: Mapping[str, Any], kind: str, path: str, key: str) -> dict[str, Any]:
    return {"name": Path(path).name, "bytes": _bytes(path), "address": picture_url(key, "jobs", job["id"], "download", kind)}


def _bytes(path: str) -> int:
    return Path(path).stat().st_size if Path(path).is_file() else 0
