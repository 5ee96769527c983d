"""A job's status as HTML: progress bar, figures, loss curve, log. No gradio here, so that it is tested as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from lib_finetune.ui.html import picture_url

_WIDTH, _HEIGHT, _MARGIN = 560, 180, 34
_SMALL, _LOW = 150, 44
_STAGES = {
    "pictures": "looking at the images",
    "measure": "measuring the loss on the validation images",
    "bind": "borrowing the model",
    "cache": "encoding images",
    "train": "training",
    "save": "saving",
    "verify": "checking the file with the WebUI's loader",
    "preview": "painting previews",
    "give back": "comparing the model with what it was",
}
STATES = {
    "interrupted": "ended with the WebUI",
    "paused": "paused",
    "queued": "waiting its turn",
    "done": "done",
    "stopped": "stopped and kept",
    "discarded": "stopped",
    "failed": "failed",
    "damaged": "damaged",
}


def render(status: Mapping[str, Any] | None, memory: Mapping[str, int] | None, key: str = "") -> str:
    """The panel of a job, or of none; its log stands below: `log`.

    Args:
        status: `jobs.Job.status`.
        memory: bytes "now", "peak", "total" of the device.
        key: opens the previews.
    """
    if status is None:
        return '<div class="finetune-empty">Nothing is being trained. Name a folder with 4 to 20 images, then press Train.</div>'
    parts = [
        _head(status),
        _bar(status),
        _figures(status, memory),
        curve(status["losses"], status["smooth"], status.get("validation", ())),
        previews(status["id"], status.get("previews", ()), key),
        _watch(status.get("watch", {})),
    ]
    return f'<div class="finetune-status finetune-{escape(status["state"])}">{"".join(parts)}</div>'


def _head(status: Mapping[str, Any]) -> str:
    doing = STATES.get(status["state"]) or _STAGES.get(status["stage"], status["stage"])
    if status["stopping"] and status["state"] == "running":
        doing += " · stopping after this step"
    message = f'<div class="finetune-message">{escape(status["message"])}</div>' if status["message"] else ""
    return f'<div class="finetune-head"><b>{escape(status["name"])}</b> · {escape(doing)}</div>{message}'


def _bar(status: Mapping[str, Any]) -> str:
    share = 100 * status["done"] / status["total"] if status["total"] else 0
    return f'<div class="finetune-bar"><div style="width:{share:.1f}%"></div></div>'


def _figures(status: Mapping[str, Any], memory: Mapping[str, int] | None) -> str:
    figures = [f"{status['done']}/{status['total']}"] if status["total"] else []
    if status["steps_per_s"]:
        speed = status["steps_per_s"]
        figures.append(f"{speed:.2f} it/s" if speed >= 1 else f"{1 / speed:.1f} s/it")
    if status["seconds_left"] is not None:
        figures.append(f"{duration(status['seconds_left'])} left")
    if memory and memory["now"]:
        figures.append(f"{memory['now'] / 2**30:.1f} GB (peak {memory['peak'] / 2**30:.1f} of {memory['total'] / 2**30:.0f})")
    figures += [f"rate {name} {rate:.2e}" for name, rate in status["rates"].items() if rate]
    return f'<div class="finetune-figures">{escape(" · ".join(figures))}</div>'


def duration(seconds: float) -> str:
    """Seconds in the words of a person: "40 s", "6 min", "2 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def previews(job: str, steps: Sequence[Mapping[str, Any]], key: str) -> str:
    """Previews on the way: a column for each step, the base first, and a row for each prompt with its seed."""
    if not steps:
        return ""
    rows = max(len(step["files"]) for step in steps)
    head = "".join(f"<th>{'base' if not step['step'] else step['step']}</th>" for step in steps)
    body = ""
    for row in range(rows):
        cells = ""
        for step in steps:
            files = step["files"][row : row + 1]
            addresses = [picture_url(key, "jobs", job, "previews", *file.split("/")[1:]) for file in files]
            cells += "<td>" + "".join(f'<a href="{url}" target="_blank"><img src="{url}" alt="preview"></a>' for url in addresses) + "</td>"
        prompt = next((step["prompts"][row] for step in steps if row < len(step["prompts"])), "")
        body += f"<tr>{cells}</tr><tr><td colspan={len(steps)} translate='no'>{escape(str(prompt))}</td></tr>"
    return f'<div class="finetune-previews" tabindex="0" aria-label="previews"><table><tr>{head}</tr>{body}</table></div>'


def _watch(curves: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """A small curve of each figure of the watch on side effects, from nothing at the bottom, with its last value."""
    shown = "".join(_small_curve(name, points) for name, points in curves.items() if points)
    return f'<div class="finetune-watch">{shown}</div>' if shown else ""


def _small_curve(name: str, points: Sequence[tuple[int, float]]) -> str:
    last = points[-1][0]
    high = max(*(value for _, value in points), 1e-6)
    places = [(_SMALL * step / max(last, 1), _LOW - (_LOW - 4) * max(value, 0.0) / high) for step, value in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    marks = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2"/>' for x, y in places)
    drawn = f'<polyline class="finetune-smooth" points="{line}"/>{marks}'
    return (
        f'<figure><svg class="finetune-curve" viewBox="-4 0 {_SMALL + 8} {_LOW + 4}" role="img" aria-label="{escape(name)}">{drawn}</svg>'
        f"<figcaption><span>{escape(name)}</span> <b>{points[-1][1]:.3g}</b></figcaption></figure>"
    )


def curve(raw: Sequence[tuple[int, float]], smooth: Sequence[tuple[int, float]], held_out: Sequence[tuple[int, float]] = ()) -> str:
    """The loss over the steps as SVG: raw pale, smoothed strong, that of the validation images dashed."""
    if len(raw) < 2:
        return ""
    values = sorted(value for _, value in raw)
    # Single spikes must not flatten the curve: the highest two per cent may leave the frame.
    low, high = values[0], max(values[math.ceil(0.98 * (len(values) - 1))], values[0] + 1e-6)
    first, last = raw[0][0], max(raw[-1][0], raw[0][0] + 1)

    def path(points: Sequence[tuple[int, float]]) -> str:
        return " ".join(
            f"{_MARGIN + (_WIDTH - _MARGIN - 4) * (step - first) / (last - first):.1f},"
            f"{6 + (_HEIGHT - 24) * (1 - (min(value, high) - low) / (high - low)):.1f}"
            for step, value in points
        )

    labels = (
        f'<text x="2" y="14">{high:.3g}</text><text x="2" y="{_HEIGHT - 18}">{low:.3g}</text>'
        f'<text x="{_MARGIN}" y="{_HEIGHT - 3}">{first}</text>'
        f'<text x="{_WIDTH - 4}" y="{_HEIGHT - 3}" text-anchor="end">step {raw[-1][0]}</text>'
    )
    lines = f'<polyline class="finetune-raw" points="{path(raw)}"/><polyline class="finetune-smooth" points="{path(smooth)}"/>'
    if held_out:
        marks = "".join(f'<circle cx="{point.split(",")[0]}" cy="{point.split(",")[1]}" r="3"/>' for point in path(held_out).split())
        lines += f'<polyline class="finetune-held" points="{path(held_out)}"/>{marks}<text x="{_WIDTH // 2}" y="14">dashed: validation images</text>'
    return f'<svg class="finetune-curve" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="loss curve">{lines}{labels}</svg>'


def log(lines: Sequence[str]) -> str:
    """The lines of a job's log, newest first: by itself, for it is long and changes seldom."""
    rows = "".join(f"<div>{escape(line)}</div>" for line in reversed(lines))
    return f'<div class="finetune-log" tabindex="0" aria-label="log">{rows}</div>'


def note(text: str) -> str:
    """A message that is no problem."""
    return f'<div class="finetune-note" role="status">{escape(text)}</div>'


def hint(text: str) -> str:
    """What is good to know, in small print."""
    return f'<p class="finetune-hint">{escape(text)}</p>'


def problems(messages: Sequence[str]) -> str:
    """Messages above the Train button; empty for none."""
    if not messages:
        return ""
    return '<div class="finetune-problems" role="alert">' + "".join(f"<div>{escape(line)}</div>" for line in messages) + "</div>"
