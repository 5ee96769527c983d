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


def _step_s(world: World, name: str) -> float:
    """Seconds that a sampling step of the preview takes, which is painted now; the longer of two."""
    seconds: list[float] = []
    done, seen_at = -1, 0.0
    while len(seconds) < 3:
        job = world.await_job(name, lambda job, done=done: job["stage"] == "preview" and job["done"] > done)  # type: ignore[misc]
        now = time.monotonic()
        seconds.append((now - seen_at) / (job["done"] - done) if seen_at else 0.0)
        done, seen_at = job["done"], now
    return max(seconds)


def _answered(world: World, name: str, words: str) -> float:
    """When a line with these words stands in a job's log, however the job ends."""
    while not any(words in line for line in (world.job(name) or {"log": ()})["log"]):
        time.sleep(0.1)
    return time.monotonic()


def controls_end_an_image(world: World) -> str:
    """Stop ends a long preview by the WebUI's own Interrupt, and the person's image that waits behind it is whole."""
    person = {"prompt": PROMPT, "seed": 1, "steps": 8, "width": 128, "height": 128, "sampler_name": "Euler"}
    before = pixels(world.webui.raw_picture(person))
    job = _begin(world, "interrupted", preview={"every": 5, "steps": _LONG})
    step_s = _step_s(world, "interrupted")
    with ThreadPoolExecutor(1) as others:
        waiting = others.submit(world.webui.raw_picture, person)
        time.sleep(0.5)
        began = _pressed(world, job, "stop", {"keep": True})
        took = _answered(world, "interrupted", "left unfinished, since a stop was asked for") - began
        assert pixels(waiting.result()) == before, "the person's image was interrupted, too"
    _ended(world, "interrupted")
    assert took < max(_ANSWER_S, 2 * step_s) + _SPARE_S, f"a stop took {took:.1f} s, a sampling step takes {step_s:.1f} s"
    return f"the preview ended {took:.1f} s after Stop (a sampling step: {step_s:.1f} s); the person's image is the same"


def _ended(world: World, name: str) -> dict[str, Any]:
    while (job := world.job(name)) is None or job["state"] not in ENDED:
        time.sleep(0.3)
    return job


def buttons_before_the_first_step(world: World) -> str:
    """Save and Preview while class images are made are answered in the log; the WebUI's Interrupt spoils no class image; Stop ends them."""
    job = _begin(world, "early", data={"class_count": 12}, objective={"prior": "pictures"}, preview={"enabled": False})
    world.await_job("early", lambda job: job["stage"] == "class images")
    took = {}
    for control, name in (("save", "Save"), ("preview", "Preview")):
        began = _pressed(world, job, control)
        took[control] = _answered(world, "early", f"Press {name} now again") - began
    world.webui.ask("/sdapi/v1/interrupt", {})
    time.sleep(1)
    began = _pressed(world, job, "stop", {"keep": False})
    took["stop"] = _answered(world, "early", "Stopped while the class images were made") - began
    assert _ended(world, "early")["state"] == "discarded"
    assert max(took["save"], took["preview"]) < _ANSWER_S + _SPARE_S, took
    images = sorted((world.webui.data / ".finetune" / "classes").rglob("*.png"))
    black = [image.name for image in images if len(set(pixels(image.read_bytes()))) < 8]
    assert not black, f"class images that were left unfinished: {black}"
    return ", ".join(f"{control} answered after {seconds:.1f} s" for control, seconds in took.items())


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
