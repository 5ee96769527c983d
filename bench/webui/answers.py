"""What must hold of images that a run asks the WebUI for: its controls end them, and they see what training saw."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench.webui.files import pixels
from bench.webui.world import ENDED, PROMPT, World

_ANSWER_S, _SPARE_S = 2.0, 5.0  # the spare is for machines that are busy with other things
_LONG = 150  # sampling steps
_CARD = {"width": 128, "height": 128, "steps": 3, "seed": 42, "cfg_scale": 7, "sampler_name": "DPM++ 2M", "scheduler": "Karras"}


def _begin(world: World, name: str, **more: Any) -> str:
    """Queue a training by the API; returns its id."""
    data = {"images": str(world.pictures), "trigger": "zxq", "class_word": "cat", "resolution": 128, **more.pop("data", {})}
    settings = {"name": name, "data": data, "training": {"steps": 2000, **more.pop("training", {})}, **more}
    return str(world.webui.ask("/finetune/v1/jobs", settings)["id"])


def _pressed(world: World, job: str, control: str, body: Any = None) -> float:
    """Press a control; returns the time."""
    world.webui.ask(f"/finetune/v1/jobs/{job}/{control}", body or {})
    return time.monotonic()


def _in(stage: str, done: int) -> Any:
    return lambda job: job["stage"] == stage and job["done"] >= done and job["total"] > done


def controls_end_an_image(world: World) -> str:
    """Stop ends a long preview by the WebUI's own Interrupt, and the person's image that waits behind it is whole."""
    # A cheap run for the comparison: the same request before any training.
    person = {"prompt": PROMPT, "seed": 1, "steps": 20, "width": 128, "height": 128, "sampler_name": "Euler"}
    before = pixels(world.webui.raw_picture(person))
    job = _begin(world, "interrupted", preview={"every": 5, "steps": _LONG, "count": 8}, training={"steps": 2000})
    world.await_job("interrupted", lambda job: bool(job["previews"]) or _in("preview", 3)(job))  # the base's row, or a step's
    world.await_job("interrupted", _in("preview", 3))
    with ThreadPoolExecutor(1) as others:
        waiting = others.submit(world.webui.raw_picture, person)
        time.sleep(0.5)
        began = _pressed(world, job, "stop", {"keep": True})
        ended = world.await_job("interrupted", lambda job: job["state"] in ENDED)
        took = time.monotonic() - began
        assert pixels(waiting.result()) == before, "the person's image was interrupted, too"
    log = "\n".join(ended["log"])
    assert "left unfinished, since a stop was asked for" in log, log
    assert took < _ANSWER_S + _SPARE_S, f"a stop while an image of {_LONG} steps was made took {took:.1f} s"
    return f"{ended['state']} {took:.1f} s after Stop; the person's image is the same"


def buttons_before_the_first_step(world: World) -> str:
    """Save and Preview while class images are made are answered in the log; the WebUI's Interrupt spoils no class image; Stop ends them."""
    data = {"class_count": 12}
    job = _begin(world, "early", data=data, objective={"prior": "pictures"}, preview={"enabled": False})
    world.await_job("early", lambda job: job["stage"] == "class images")
    answers = {}
    for control, name in (("save", "Save"), ("preview", "Preview")):
        began = _pressed(world, job, control)
        found = world.await_job("early", lambda job, name=name: any(f"Press {name} now again" in line for line in job["log"]))  # type: ignore[misc]
        answers[control] = time.monotonic() - began
        assert any("Nothing is trained yet" in line for line in found["log"])
    world.webui.ask("/sdapi/v1/interrupt", {})
    began = _pressed(world, job, "stop", {"keep": False})
    ended = world.await_job("early", lambda job: job["state"] in ENDED)
    took = time.monotonic() - began
    assert ended["state"] == "discarded", ended["state"]
    slowest = max(*answers.values(), took)
    assert slowest < _ANSWER_S + _SPARE_S, f"{answers}, stop {took:.1f} s"
    images = sorted((world.webui.data / ".finetune" / "classes").rglob("*.png"))
    black = [image.name for image in images if len(set(pixels(image.read_bytes()))) < 8]
    assert not black, f"class images that were left unfinished: {black}"
    return f"answers after {', '.join(f'{name} {value:.1f} s' for name, value in answers.items())}, stop {took:.1f} s"


def images_see_what_training_saw(world: World) -> str:
    """With clip skip 2, the card's image is what the WebUI paints with the file at clip skip 2; file and card tell it."""
    network = {"rank": 8, "alpha": 8}
    _begin(
        world,
        "skipping",
        training={"steps": 30, "clip_skip": 2},
        network=network,
        optimizer={"unet_rate": 1e-3},
        preview={"every": 0, "steps": 3},
    )
    job = world.await_end("skipping")
    request = {**_CARD, "prompt": f"{PROMPT} <lora:skipping:0.8>"}
    shown = pixels(world.file("skipping").with_suffix(".png").read_bytes())
    painted = {
        skip: pixels(world.webui.raw_picture({**request, "override_settings": {"CLIP_stop_at_last_layers": skip}})) for skip in (1, 2)
    }
    assert shown == painted[2], "the card's image is not what the file paints at clip skip 2"
    assert shown != painted[1], "clip skip makes no difference here"
    card = json.loads(world.file("skipping").with_suffix(".json").read_text(encoding="utf-8"))
    assert "clip skip to 2" in json.dumps(card), card
    assert any("Set clip skip to 2" in line for line in job["log"]), job["log"]
    assert world.webui.ask("/sdapi/v1/options")["CLIP_stop_at_last_layers"] == 1, "the person's clip skip is another one now"
    return "card, file and images at clip skip 2; the person's setting is still 1"
