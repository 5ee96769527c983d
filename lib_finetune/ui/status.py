"""A job as HTML: how it stands, its figures, its previews, and the places of plot and log. No gradio here, so that it is tested as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import zip_longest
from typing import Any

from markupsafe import Markup

from lib_finetune.jobs.states import ENDED
from lib_finetune.ui import markup
from lib_finetune.ui.html import duration, picture_url

METHODS = {"lora": "LoRA", "dreambooth": "DreamBooth", "textual_inversion": "Textual Inversion", "pivotal_tuning": "Pivotal tuning"}
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


def render(status: Mapping[str, Any] | None, memory: Mapping[str, int] | None) -> str:
    """What is said of a job, or of none: how it stands, how far it is, its figures.

    Args:
        status: `Trainings.view`.
        memory: bytes "now", "peak", "total" of the device.
    """
    if status is None:
        return '<div class="finetune-empty"><p>Nothing is being trained. Name a folder with 4 to 20 images, then press Train.</p></div>'
    going = status["state"] not in ENDED
    works = status.get("call") or "" if status["state"] in ("done", "stopped") and status["file"] else ""
    return markup.render(
        "run",
        job=status,
        method=METHODS[status["method"]],
        doing=_doing(status),
        going=going,
        share=share(status),
        works=works,
        message=status["message"],
        figures=_figures(status, memory),
        watch=Markup(_watch(status.get("watch", {}))),
    )


def _doing(status: Mapping[str, Any]) -> str:
    doing = STATES.get(status["state"]) or _STAGES.get(status["stage"], status["stage"])
    return f"{doing} · stopping after this step" if status["stopping"] and status["state"] == "running" else doing


def share(status: Mapping[str, Any]) -> float:
    """How much of a job is done, in percent."""
    return 100 * status["done"] / status["total"] if status["total"] else 0.0


def _figures(status: Mapping[str, Any], memory: Mapping[str, int] | None) -> list[str]:
    figures = [f"{status['done']}/{status['total']}"] if status["total"] else []
    if status["steps_per_s"]:
        speed = status["steps_per_s"]
        figures.append(f"{speed:.2f} it/s" if speed >= 1 else f"{1 / speed:.1f} s/it")
    if status["seconds_left"] is not None:
        figures.append(f"{duration(status['seconds_left'])} left")
    if memory and memory["now"]:
        figures.append(f"{memory['now'] / 2**30:.1f} GB (peak {memory['peak'] / 2**30:.1f} of {memory['total'] / 2**30:.0f})")
    return figures + [f"rate {name} {rate:.2e}" for name, rate in status["rates"].items() if rate]


def bar(job: Mapping[str, Any] | None, ended: Mapping[str, Any] | None, running: int, waiting: int, lost: str = "") -> str:
    """The thin bar on every place: name, step, time left and *Open*.

    Args:
        job: that is being trained, or None.
        ended: the one that ended last, whose end the page's script makes heard.
        running, waiting: how many jobs there are of each.
        lost: why nothing can be trained any more, or "".
    """
    figures = []
    if job:
        figures = [f"{job['done']}/{job['total']}"] if job["total"] else []
        figures.append(f"{duration(job['seconds_left'])} left" if job["seconds_left"] is not None else _doing(job))
    return markup.render(
        "bar", job=job, ended=ended, figures=figures, share=share(job) if job else 0, running=running, waiting=waiting, lost=lost
    )


def plot(job: Mapping[str, Any] | None, key: str) -> str:
    """The place of the loss curves and of the log; the page's script fills them from a route of ours.

    Args:
        key: opens the route.
    """
    return markup.render("plot", job=job, key=key)


def film(job: str, steps: Sequence[Mapping[str, Any]], key: str) -> str:
    """Previews so far: a strip for each prompt with its seed, the base first.

    Args:
        job: id of the job.
        steps: rows as `jobs.status` has them.
        key: opens the images.
    """
    rows = []
    for place in range(max((len(step["files"]) for step in steps), default=0)):
        prompt = next((str(step["prompts"][place]) for step in steps if place < len(step["prompts"])), "")
        cells = []
        for step in steps:
            for file in step["files"][place : place + 1]:
                label = f"step {step['step']}" if step["step"] else "base"
                address = picture_url(key, "jobs", job, "previews", *file.split("/")[1:])
                cells.append(
                    {"step": step["step"], "label": label, "full": address, "small": f"{address}&small=1", "title": f"{label} · {prompt}"}
                )
        rows.append({"prompt": prompt, "cells": cells, "group": f"previews {place}"})
    return markup.render("film", rows=rows)


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


def note(text: str) -> str:
    """A message that is no problem."""
    return f'<div class="finetune-note" role="status">{escape(text)}</div>'


def hint(text: str) -> str:
    """What is good to know, in small print."""
    return f'<p class="finetune-hint">{escape(text)}</p>'


def problems(messages: Sequence[str], fields: Sequence[str] = ()) -> str:
    """Messages above the Train button; empty for none.

    Args:
        fields: element id of the field that each message is about, "" for none; the page's script marks it.
    """
    if not messages:
        return ""
    return markup.render("problems", lines=list(zip_longest(messages, fields, fillvalue="")))
