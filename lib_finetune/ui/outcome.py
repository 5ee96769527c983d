"""What a job made, as HTML: its files by step, how to use them, what to do when it is too weak or overdone."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from lib_finetune.ui.html import attributes, button, size


def render(job: Mapping[str, Any] | None, feedback: str = "") -> str:
    """The result of a job, or nothing.

    Args:
        feedback: the answer to "Too weak" or "Overdone", shown beneath it.
    """
    if job is None or not job["choices"] or job["state"] not in ("done", "stopped", "interrupted", "failed"):
        return ""
    return f'<div class="finetune-outcome"><h4>{escape(job["name"])}</h4>{_use(job)}{_points(job)}{_compare(job)}{_judge(job, feedback)}{_more(job)}</div>'


def _use(job: Mapping[str, Any]) -> str:
    call = job["call"]
    if not job["files"]:
        return "<div>It ended without a result. Make one of its files the result.</div>"
    if job["method"] != "dreambooth":
        use = (
            f'<button type="button" class="sm primary gradio-button finetune-use"{attributes({"data-call": call})}>Use in txt2img</button>'
        )
        shown = f"<code>{escape(call)}</code>"
    else:
        use, shown = (
            button("Use in txt2img", "select", primary=True, job=job["id"], help_text="loads the checkpoint"),
            "a checkpoint of its own",
        )
    return f'<div class="finetune-row">{use} {button("Open folder", "open", job=job["id"])} {shown}</div>'


def _points(job: Mapping[str, Any]) -> str:
    if len(job["choices"]) < 2:
        return ""
    rows = []
    for step, files in job["choices"].items():
        amount = sum(Path(path).stat().st_size for path in files.values() if Path(path).is_file())
        if int(step) == job["steps"]:
            rows.append(f"<li>step {step} · {size(amount)} · <b>the result</b></li>")
        else:
            keep = button("Make it the result", "pick", job=job["id"], step=int(step))
            alone = button(
                "… and delete the others", "pick", job=job["id"], step=int(step), alone=True, sure="Delete the files of all other steps?"
            )
            rows.append(f"<li>step {step} · {size(amount)} {keep} {alone}</li>")
    return f'<ul class="finetune-points">{"".join(rows)}</ul>'


_WEIGHTS = '<input class="finetune-field" data-field="weights" value="0.6, 0.8, 1" aria-label="weights" size="12">'
_PROMPTS = (
    '<textarea class="finetune-field" data-field="prompts" rows="2" aria-label="prompts" '
    'placeholder="prompts, one a line; {trigger} and {class} are filled in"></textarea>'
)


def _compare(job: Mapping[str, Any]) -> str:
    weights = _WEIGHTS if "lora" in _kinds(job) else ""
    group = button("Compare with the others of its group", "group sheet", group=job["group"]) if job["group"] else ""
    compare = button("Compare", "sheet", job=job["id"], help_text="images of every step at these weights, beside the base")
    return f'<div class="finetune-row finetune-asks">{_PROMPTS}{weights}{compare}{group}</div>'


def _kinds(job: Mapping[str, Any]) -> set[str]:
    return {kind for files in job["choices"].values() for kind in files}


def _judge(job: Mapping[str, Any], feedback: str) -> str:
    weak, over = (button(label, "verdict", job=job["id"], answer=label.lower()) for label in ("Too weak", "Overdone"))
    answer = f'<span class="finetune-answer" role="status">{escape(feedback)}</span>' if feedback else ""
    return f'<div class="finetune-row">Not right? {weak} {over} {answer}</div>'


def _more(job: Mapping[str, Any]) -> str:
    steps = '<input class="finetune-field" data-field="steps" value="200" aria-label="more steps" size="6">'
    states = job.get("states", ())
    chosen = job["steps"] if job["steps"] in states else max(states, default=0)
    options = "".join(f'<option value="{step}"{" selected" * (step == chosen)}>from step {step}</option>' for step in states)
    point = f'<select class="finetune-field" data-field="step" aria-label="from the state of">{options}</select>' if len(states) > 1 else ""
    anew = button("Train more steps:", "more", job=job["id"], help_text="a schedule of their own, which rises gently")
    same = button("… at the last rate", "more", job=job["id"], further="end", help_text="as many steps at the rate where it ended")
    return f'<div class="finetune-row finetune-asks">{anew}{steps}{point}{same}</div>'
