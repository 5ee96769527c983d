"""What must hold in a WebUI, a function each: returns what is worth telling, raises AssertionError with what does not hold."""

from __future__ import annotations

import json
import re
import time
import urllib.error
from typing import Any

from bench.webui.answers import buttons_before_the_first_step, controls_end_an_image, images_see_what_training_saw
from bench.webui.files import pixels, tensors
from bench.webui.tab import Tab
from bench.webui.world import PROMPT, LeftOut, World

_PICTURES = 20
_TURN_S, _SPARE_S = 1.0, 5.0  # the spare is for machines that are busy with other things
_SHORT = 12  # steps
_RELOAD_S = 180
_SAME = 1e-4  # of conditioning in fp32


def starts_lightly(world: World) -> str:
    """Starting imports no library of ours."""
    found = world.probe("imported")
    assert not found, f"imported when the WebUI started: {found}"
    return f"ready after {world.notes['start_s']:.0f} s"


def tab_stands_before_settings(world: World) -> str:
    """The page has the tab, and no console error of ours."""
    browser = world.seen()
    took = browser.open()
    titles = browser.tabs()
    assert "Finetune" in titles and titles.index("Finetune") < titles.index("Settings"), f"tabs: {titles}"
    time.sleep(3)  # two polls
    ours = [line for line in browser.errors if "finetune" in line.lower()]
    assert not ours, f"console: {ours}"
    browser.shoot(world.shot("idle"))
    others = len(browser.errors)
    return f"page after {took:.0f} s" + (f"; {others} console errors of others, first: {browser.errors[0][:60]}" if others else "")


def bad_input_starts_nothing(world: World) -> str:
    """Wrong folder, name and number are all said at once, and no job is there."""
    wrong = {**world.settings("a/b"), "images": "/no/such/folder", "training_steps": "abc"}
    tab = Tab(world.webui)
    tab.fill(**wrong)
    unread = tab.press("finetune_train")
    tab.fill(training_steps="10")
    said = tab.press("finetune_train")
    assert "abc" in unread and re.search("steps", unread, re.IGNORECASE), f"a number that is none: {unread}"
    assert "/no/such/folder" in said and "a/b" in said, f"folder and name: {said}"
    assert not world.probe("jobs"), "a job was started"
    return "steps, folder, name" + ("" if "/no/such/folder" in unread else "; but not all three in one message")


def bad_input_is_seen(world: World) -> str:
    """The message stands above Train in the page."""
    browser = world.seen()
    browser.fill(images="/no/such/folder", name="a/b")
    browser.press("train")
    said = browser.message()
    browser.shoot(world.shot("error"))
    assert "/no/such/folder" in said and "a/b" in said, said
    return said.replace("\n", " | ")[:160]


def trains_from_the_tab(world: World) -> str:
    """The run that all others are compared with: nobody disturbs it."""
    world.notes["plain"] = world.webui.picture(PROMPT)
    world.notes["before"] = world.probe("model")
    if world.browser is None:
        world.train("quiet")
    else:
        _train_in_the_page(world)
    job = world.await_end("quiet")
    assert world.file("quiet").is_file(), f"no {world.file('quiet')}"
    log = "\n".join(job["log"])
    matched = re.search(r"matched (\d+) of (\d+) modules", log)
    assert matched and matched[1] == matched[2], f"no 'matched N of N' in the log: {log}"
    assert "exactly as it was" in log, f"no restoration line in the log: {log}"
    if world.browser is not None:
        world.browser.panel("done")
        world.browser.shoot(world.shot("done"))
        assert world.browser.lists_lora("quiet"), "the Lora page that was open does not show the new file"
        world.browser.leave()
    restored = next(line for line in job["log"] if "exactly as it was" in line)
    return f"{job['steps_per_s']:.1f} it/s; {matched[0]}; {restored}"


def _train_in_the_page(world: World) -> None:
    browser = world.seen()
    browser.open_lora_page()
    browser.fill(**world.settings("quiet"))
    browser.press("train")
    text = browser.panel(r"it/s|s/it")
    assert re.search(rf"\d+/{world.steps}", text) and "left" in text, text
    browser.page.wait_for_selector("#finetune_plot canvas", state="attached")
    assert browser.page.locator("#finetune_keep").is_visible() and browser.page.locator("#finetune_discard").is_visible(), "no stop buttons"
    browser.panel(rf"\b[1-9]\d/{world.steps}\b")  # a curve to look at
    browser.shoot(world.shot("running"))


def card_is_complete(world: World) -> str:
    """Activation text, preferred weight, preview image, and the WebUI lists the file."""
    card = json.loads(world.file("quiet").with_suffix(".json").read_text(encoding="utf-8"))
    assert "zxq" in card["activation text"] and card["preferred weight"] == 0.8, card
    assert world.file("quiet").with_suffix(".png").is_file(), "no preview image"
    names = [entry["name"] for entry in world.webui.ask("/sdapi/v1/loras")]
    assert "quiet" in names, f"the WebUI lists {names}"
    return f"{card['activation text']!r}, weight {card['preferred weight']}"


def file_works_at_once(world: World) -> str:
    """<lora:…> changes an image without a restart, and leaves the next one alone."""
    changed = world.webui.picture(f"{PROMPT} <lora:quiet:0.8>")
    assert changed != world.notes["plain"], "the image is the same with and without <lora:quiet:0.8>"
    assert world.webui.picture(PROMPT) == world.notes["plain"], "the plain image is another one now"
    world.notes["with lora"] = changed
    return ""


def embedding_works_at_once(world: World) -> str:
    """A word is taught, works in a prompt without a restart, and means there what it meant in training."""
    from urllib.parse import urlencode

    # Two chunks. Without commas: where the WebUI moves the words behind a comma to the next chunk, it leaves the vectors behind.
    prompt = " and ".join(["a photo of zxqdog beside a red car"] * 8)
    before = world.webui.picture(prompt)
    word = {"method": "textual_inversion", "embedding_vectors": "3", "embedding_init": "red car", "embedding_rate": "0.1"}
    world.train("zxqdog", _SHORT, **word)
    job = world.await_end("zxqdog")
    assert any("has loaded the embedding" in line for line in job["log"]), job["log"]
    file = world.webui.data / "embeddings" / "zxqdog.safetensors"
    assert file.is_file() and file.with_suffix(".preview.png").is_file() and file.with_suffix(".json").is_file(), "file, image, card"
    assert world.webui.picture(prompt) != before, "the word changes nothing"
    found = world.probe("conditioning?" + urlencode({"prompt": prompt, "file": str(file)}))
    assert found["to ours"] < _SAME < found["to ours without the embedding"], found
    return f"{found['shape'][1] // 77} chunks, largest difference {found['to ours']:.1e}; {file.stat().st_size} bytes"


def checkpoint_works_at_once(world: World) -> str:
    """DreamBooth's file is listed, chosen afterwards, and paints what the card's image shows; meanwhile images are the host's own."""
    whole: dict[str, Any] = {
        "method": "dreambooth",
        "optimizer_unet_rate": "1e-3",
        "tuning_select": True,
        "trigger": "sks",
        "data_class_count": "2",
    }
    world.train("whole", _SHORT, **whole)
    world.await_step("whole", 2)
    assert world.webui.picture(PROMPT) == world.notes["plain"], "an image made meanwhile differs from the one made before training"
    job = world.await_end("whole")
    log = "\n".join(job["log"])
    assert "exactly as it was" in log and "lists the checkpoint" in log and "need 2" in log, log
    file = world.webui.data / "models" / "Stable-diffusion" / "whole.safetensors"
    assert file.is_file() and file.with_suffix(".json").is_file(), "file and card"
    names = [entry["model_name"] for entry in world.webui.ask("/sdapi/v1/sd-models")]
    assert "whole" in names, f"the WebUI lists {names}"
    loaded = world.webui.ask("/sdapi/v1/options")["sd_model_checkpoint"]
    assert loaded.startswith("whole"), f"{loaded} is loaded"
    assert world.webui.picture(PROMPT) != world.notes["plain"], "the checkpoint paints as the base"
    size = {"width": 128, "height": 128, "steps": 3, "seed": 42, "cfg_scale": 7, "sampler_name": "DPM++ 2M", "scheduler": "Karras"}
    shown = world.webui.raw_picture({"prompt": "a photo of sks cat", **size})
    same = pixels(shown) == pixels(file.with_suffix(".png").read_bytes())
    world.webui.load(world.checkpoint)
    assert world.webui.picture(PROMPT) == world.notes["plain"], "the plain image is another one now"
    assert same, "the card's image is not what the file paints"
    return f"{file.stat().st_size / 1e6:.0f} MB; the preview equals the image of the loaded file"


def models_change_places(world: World) -> str:
    """DreamBooth with the WebUI's model in main memory: images meanwhile are the host's own, and what is learned is the same."""
    whole = {"method": "dreambooth", "optimizer_unet_rate": "1e-3", "trigger": "sks", "objective_prior": "off", "preview_every": "10"}
    found = {}
    for name, place in (("beside", "beside"), ("exchanged", "exchange")):
        world.train(name, 40, **whole, tuning_host_weights=place)
        for step in (2, 10, 20):
            world.await_step(name, step)
            for prompt, noted in ((PROMPT, "plain"), (f"{PROMPT} <lora:quiet:0.8>", "with lora")):
                assert world.webui.picture(prompt) == world.notes[noted], f"{name}: an image made meanwhile ({noted}) is another one"
        log = "\n".join(world.await_end(name)["log"])
        assert "exactly as it was" in log, log
        found[name] = tensors(world.webui.data / "models" / "Stable-diffusion" / f"{name}.safetensors")[1]
    assert found["beside"] == found["exchanged"], "the models learned different things"
    assert world.webui.picture(PROMPT) == world.notes["plain"], "the plain image is another one now"
    return next(line for line in log.split("\n") if "The two models were swapped" in line)


def bundled_word_works_at_once(world: World) -> str:
    """A word inside a LoRA file works while the file is named, means there what it meant in training, and is gone without it."""
    from urllib.parse import urlencode

    prompt = "a photo of zxqowl beside a red car"
    before = world.webui.picture(prompt)
    word = {"method": "pivotal_tuning", "embedding_vectors": "3", "embedding_init": "red car", "embedding_rate": "0.1"}
    world.train("zxqowl", _SHORT, **word)
    job = world.await_end("zxqowl")
    assert any("read the word zxqowl" in line for line in job["log"]), job["log"]
    assert any("exactly as it was" in line for line in job["log"]), job["log"]
    assert world.webui.picture(prompt) == before, "the word works without its file"
    file = world.file("zxqowl")
    found = world.probe("conditioning?" + urlencode({"prompt": prompt, "file": str(file)}))
    assert found["to ours"] < _SAME < found["to ours without the embedding"], found
    assert len({before, world.webui.picture(f"{prompt} <lora:zxqowl:1>"), world.webui.picture("a red car <lora:zxqowl:1>")}) == 3
    assert world.webui.picture(prompt) == before, "the word stays after its file"
    return f"largest difference {found['to ours']:.1e}, without the word {found['to ours without the embedding']:.1e}"


def pictures_during_training(world: World) -> str:
    """20 requests in a row give the images they gave before, soon, and the training is not harmed."""
    world.train("busy")
    world.await_step("busy", 3)
    own, waits, slowest = [], [], 0.0
    for number in range(_PICTURES):
        name, prompt = ("plain", PROMPT) if number % 3 else ("with lora", f"{PROMPT} <lora:quiet:0.8>")
        asked = time.monotonic()
        picture = world.webui.picture(prompt)
        began = world.probe("began")[-1]
        waits.append(began - asked)
        own.append(time.monotonic() - began)
        assert picture == world.notes[name], f"image {number} ({name}) differs from the one made before training"
        job = world.job("busy") or {}
        slowest = max(slowest, 1 / (job["steps_per_s"] or 1))
    world.await_end("busy")
    world.same_as_undisturbed("busy")
    mean = sum(waits) / len(waits)
    told = f"longest wait {max(waits):.1f} s, mean {mean:.1f} s (a step: up to {slowest:.1f} s, an image: {sum(own) / len(own):.1f} s)"
    assert max(waits) < _TURN_S + slowest + _SPARE_S, f"{told}; waits: {[round(wait, 1) for wait in waits]}"
    return told + f"; training at step {job['done']} of {job['total']} after them" + (" (already over!)" if job["state"] == "done" else "")


def the_api_trains_and_previews(world: World) -> str:
    """A training by the API: events, previews by txt2img on the way beside the base, and the half-trained file in a prompt."""
    data = {"images": str(world.pictures), "trigger": "zxq", "class_word": "cat", "resolution": 128}
    preview = {"every": 20, "steps": 3, "prompts": PROMPT, "seed": 5}
    settings = {"name": "by-api", "data": data, "training": {"steps": 60}, "preview": preview}
    name = world.webui.ask("/finetune/v1/jobs", settings)["id"]
    world.await_job("by-api", lambda job: len(job["previews"]) > 1)
    half = world.webui.lora / "by-api-000020.safetensors"
    assert half.is_file(), "the file of step 20 does not lie in the Lora folder while the next preview is awaited"
    with_half = world.webui.picture(f"{PROMPT} <lora:by-api-000020:1>")
    world.webui.ask("/sdapi/v1/interrupt", {})  # the button of txt2img; it is not ours
    world.await_end("by-api")
    assert with_half != world.webui.picture(PROMPT), "the half-trained file changes nothing"
    assert not half.exists(), "the lent file was not taken back"
    job = world.webui.ask(f"/finetune/v1/jobs/{name}")
    steps = [row["step"] for row in job["previews"]]
    folder = world.webui.data / ".finetune" / "runs" / name
    shown = [pixels((folder / row["files"][0]).read_bytes()) for row in job["previews"]]
    assert steps == [0, 20, 40, 60] and len({bytes(one) for one in shown}) == 4, steps
    events = world.webui.ask(f"/finetune/v1/jobs/{name}/events")
    assert len(events["losses"]) == 60 and job["file"] == str(world.file("by-api")), events["line"]
    assert "/finetune/v1/jobs" in world.webui.ask("/openapi.json")["paths"]
    return f"previews at {steps}; {len(events['log'])} lines; used by {job['call']}"


def three_methods_are_compared(world: World) -> str:
    """The same images through LoRA, DreamBooth and Textual Inversion; one sheet of base and results, with size, time and memory."""
    data = {"images": str(world.pictures), "trigger": "zxq", "class_word": "cat", "resolution": 128}
    settings = {"name": "zxqfox", "data": data, "training": {"steps": _SHORT}, "preview": {"every": 0, "steps": 3}}
    jobs = world.webui.ask("/finetune/v1/compare", settings)
    for job in jobs:
        world.await_end(job["name"])
    until = time.monotonic() + _RELOAD_S
    while not (sheets := world.webui.ask("/finetune/v1/sheets")) and time.monotonic() < until:
        time.sleep(1)
    assert sheets, [errand["message"] for errand in world.webui.ask("/finetune/v1/jobs")["errands"]]
    made = {job["method"]: job["files"] for job in world.webui.ask("/finetune/v1/jobs")["jobs"] if job["group"] == jobs[0]["group"]}
    assert len(made) == 3, made
    width = int.from_bytes((world.webui.data / ".finetune" / "sheets" / sheets[0]).read_bytes()[16:20], "big")
    assert width == 4 * 128, width
    if world.browser is not None:
        world.browser.open()
        world.browser.place("Compare")
        world.browser.page.wait_for_selector("#finetune_sheets .finetune-item img")
        world.browser.page.wait_for_timeout(1000)
        if place := world.shot("compared"):
            world.browser.page.screenshot(path=place)
    return f"{', '.join(job['name'] for job in jobs)}: {sheets[0]}"


def another_checkpoint_meanwhile(world: World) -> str:
    """The job waits while another is loaded, goes on when it is back or asked back, and its file is the undisturbed one."""
    if world.other is None:
        raise LeftOut("needs --other")
    world.train("switched")
    world.await_step("switched", 5)
    for back in ("by hand", "by button"):
        world.webui.load(world.other)
        job = world.await_job("switched", lambda job: job["state"] == "waiting")
        assert "waiting for" in job["stage"], job["stage"]
        assert world.webui.picture(PROMPT) != world.notes["plain"], "the other checkpoint paints the same"
        if back == "by hand":
            world.webui.load(world.checkpoint)
        else:
            world.press("load")
        world.await_step("switched", job["done"] + 2)
    world.await_end("switched")
    world.same_as_undisturbed("switched")
    assert world.webui.picture(PROMPT) == world.notes["plain"], "the plain image is another one now"
    return job["stage"]


def reloading_the_page(world: World) -> str:
    """The page finds the job again; then Reload UI, and again; the file is the undisturbed one."""
    world.train("reloaded")
    world.await_step("reloaded", 5)
    if world.browser is not None:
        for _ in range(2):
            world.browser.open()
            world.browser.panel(r"reloaded[\s\S]*\d+/")
    ready = world.webui.times_ready()
    Tab(world.webui).press("settings_restart_gradio")
    world.webui.await_ready(ready + 1, within_s=_RELOAD_S)
    after = world.job("reloaded")
    assert after is not None, "Reload UI lost the job"
    if world.browser is not None:
        world.browser.open()
        world.browser.panel("reloaded")
        world.browser.leave()
    world.await_end("reloaded")
    world.same_as_undisturbed("reloaded")
    return f"{after['state']} at step {after['done']} after Reload UI" + ("" if world.browser else "; the page itself was not looked at")


def an_update_is_noticed(world: World) -> str:
    """Files of the extension change while the WebUI runs: no training begins, and Reload UI asks for a restart in the tab, until they are back."""
    file = world.webui.data / "extensions" / "finetune" / "lib_finetune" / "runs" / "pace.py"
    before, notices = file.read_bytes(), []
    try:
        for content in (before + b"# an update\n", before):
            file.write_bytes(content)
            ready = world.webui.times_ready()
            Tab(world.webui).press("settings_restart_gradio")
            world.webui.await_ready(ready + 1, within_s=_RELOAD_S)
            parts = world.webui.ask("/config")["components"]
            notices.append(next(part["props"]["value"] for part in parts if part["props"].get("elem_id") == "finetune_missing"))
            if content != before:
                _refused_after_update(world)
    finally:
        file.write_bytes(before)
    assert "Finetune was updated while this program runs" in notices[0] and "updated" not in notices[1], notices
    return "no training began, and the tab asked for a restart"


def _refused_after_update(world: World) -> None:
    if world.browser is not None:
        world.browser.open()
        world.browser.page.wait_for_selector("#finetune_missing .finetune-problems")
        world.browser.shoot(world.shot("updated"))
        world.browser.leave()
    code = 200
    try:
        world.webui.ask("/finetune/v1/queue/go", {})
    except urllib.error.HTTPError as error:
        code = error.code
    assert code == 409, f"the queue was let go on a mixture of versions: {code}"


def endings_give_back(world: World) -> str:
    """After success, both stops, an error and out of memory: the model is what it was, and files are there or not."""
    told = []
    for how in ("done", "kept", "discarded", "error", "memory"):
        before = world.probe("model")
        _end(world, how)
        after = world.probe("model")
        there = world.file(f"end-{how}").exists()
        assert there == (how in ("done", "kept")), f"after {how} the file is {'' if there else 'not '}there"
        changed = _changed(before, after)
        assert not changed, f"after {how}: {changed}"
        assert world.webui.picture(PROMPT) == world.notes["plain"], f"after {how} the same seed gives another image"
        told.append(how)
    return ", ".join(told)


def _end(world: World, how: str) -> None:
    name = f"end-{how}"
    if how in ("error", "memory"):
        world.probe(f"break_step?kind={how}")
    world.train(name, _SHORT if how == "done" else None)
    if how in ("error", "memory"):
        job = world.await_end(name, "failed")
        word = "unexpected error" if how == "error" else "out of memory"
        assert word in job["message"], f"the message does not say what happened: {job['message']}"
    elif how == "done":
        world.await_end(name)
    else:
        world.await_step(name, 5)
        world.press("keep" if how == "kept" else "discard")
        world.await_end(name, "stopped" if how == "kept" else "discarded")


def _changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What differs, in words: the first few of each group."""
    found = []
    for group, values in before.items():
        now = after[group]
        if isinstance(values, dict):
            found += [
                f"{group}: {key} was {values.get(key)}, is {now.get(key)}" for key in {**values, **now} if values.get(key) != now.get(key)
            ]
        elif values != now:
            found.append(f"{group} was {values}, is {now}")
    return found[:5]


def killed_and_continued(world: World) -> str:
    """SIGKILL, start again: the tab offers the run, goes on, and the file is the undisturbed one."""
    world.train("killed")
    stopped = world.await_step("killed", world.steps // 2)
    world.webui.kill()
    again = world.webui.start()
    if world.browser is not None:
        world.browser.open()
        world.browser.place("Runs")
        world.browser.page.wait_for_selector("#finetune_continue:visible")
        world.browser.shoot(world.shot("unfinished"))
        world.browser.press("continue")
    else:
        world.press("continue", unfinished=stopped["id"])
    job = world.await_end("killed")
    if world.browser is not None:
        world.browser.leave()
    going = next((line for line in job["log"] if "Resuming at step" in line), "")
    assert going, f"it began anew: {job['log']}"
    world.same_as_undisturbed("killed")
    return f"killed at step {stopped['done']}; {going}; the WebUI was back after {again:.0f} s"


def weights_never_changed(world: World) -> str:
    """After all of this the model is the one of the beginning, and an undisturbed run gives the same file again."""
    changed = _changed({"tensors": world.notes["before"]["tensors"]}, world.probe("model"))
    assert not changed, changed
    world.train("again")
    world.await_end("again")
    world.same_as_undisturbed("again")
    return f"{len(world.notes['before']['tensors'])} tensors; the file has {len(tensors(world.file('again'))[0])}"


CHECKS = (
    starts_lightly,
    tab_stands_before_settings,
    bad_input_starts_nothing,
    bad_input_is_seen,
    trains_from_the_tab,
    card_is_complete,
    file_works_at_once,
    embedding_works_at_once,
    checkpoint_works_at_once,
    models_change_places,
    bundled_word_works_at_once,
    pictures_during_training,
    the_api_trains_and_previews,
    controls_end_an_image,
    buttons_before_the_first_step,
    images_see_what_training_saw,
    three_methods_are_compared,
    another_checkpoint_meanwhile,
    endings_give_back,
    killed_and_continued,
    weights_never_changed,
    an_update_is_noticed,
    reloading_the_page,  # last: a WebUI that does not come back takes nothing else with it
)
