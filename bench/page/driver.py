"""The tab as a person uses it, without the WebUI: headless Chromium drives a whole LoRA training on the small checkpoint.

    python -m bench.page.driver --python .venv/bin/python [--screenshots DIR] [--port P]

The Python that runs this needs playwright, and the machine Chromium; ``--python`` is the one that serves the page. Drops images, edits a
caption, trains, watches, reloads the page midway, pauses, stops, picks a point and finds the file. One line a check; exit code 1 when one fails.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
_WAIT_S = 240  # only a fault waits so long, or a busy machine
_WORK_S = 600  # what trains or paints takes as long as this on a busy machine


class Page:
    """The served tab and a browser that looks at it."""

    def __init__(self, python: Path, port: int, root: Path, screenshots: Path | None) -> None:
        self.root, self.port, self.screenshots = root, port, screenshots
        self.errors: list[str] = []
        self._command = [str(python), "-m", "bench", "ui", "--port", str(port), "--output-root", str(root / "out")]
        self.page: Any = None
        self.start()
        from playwright.sync_api import sync_playwright

        self._playwright = sync_playwright().start()
        self._browser = self._playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS.split())

    def start(self) -> None:
        """Serve the page; from what an earlier server has left, where there was one."""
        log = self.root / "log.txt"
        before = log.stat().st_size if log.is_file() else 0
        self.log = log.open("a", encoding="utf-8")
        self.server = subprocess.Popen(self._command, cwd=ROOT, stdout=self.log, stderr=subprocess.STDOUT)
        self.until(lambda: b"is ready" in log.read_bytes()[before:], "the server said that it is ready")

    def kill(self) -> None:
        """End the server as a crash does."""
        self.server.kill()
        self.server.wait(20)

    def another(self) -> Any:
        """A second page, as of another window."""
        page = self._browser.new_page(viewport={"width": 1280, "height": 1000})
        page.on("pageerror", lambda error: self.errors.append(f"{error} {(error.stack or '')[:500]}"))
        page.goto(f"{self.address}/", wait_until="domcontentloaded")
        page.wait_for_selector("#finetune_train")
        return page

    def open(self, theme: str = "light", width: int = 1280, height: int = 1000) -> None:
        """A fresh page."""
        if self.page is not None:
            self.page.close()
        self.page = self._browser.new_page(viewport={"width": width, "height": height})
        self.page.on("pageerror", lambda error: self.errors.append(f"{error} {(error.stack or '')[:500]}"))
        self.page.route(lambda address: not address.startswith(self.address), lambda route: route.abort())
        self.page.goto(f"{self.address}/?__theme={theme}", wait_until="domcontentloaded")
        self.page.wait_for_selector("#finetune_train")

    @property
    def address(self) -> str:
        """Of the page."""
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str) -> Any:
        """An answer of the API."""
        with urllib.request.urlopen(f"{self.address}/finetune/v1{path}", timeout=60) as answer:
            return json.load(answer)

    def job(self, name: str) -> Any:
        """The newest run of this name, as the API tells it."""
        return [job for job in self.ask("/jobs")["jobs"] if job["name"] == name][-1]

    def place(self, title: str) -> None:
        """Go to one of the five places."""
        self.page.click(f"#finetune_places > .tab-nav > button:has-text('{title}')")

    def section(self, name: str) -> None:
        """Show a section of the settings."""
        self.page.click(f".finetune-pill[data-section={name}]")

    def fill(self, **values: str) -> None:
        """Type into finetune_``name`` and leave the field, whose section is shown first."""
        for name, value in values.items():
            field = self.page.locator(f"#finetune_{name} textarea, #finetune_{name} input").first
            facts = json.loads(self.page.get_attribute("#finetune_defaults", "data-defaults")).get(f"finetune_{name}")
            if facts and not field.is_visible():
                self.section(facts["section"])
            field.fill(value)
            field.blur()

    def press(self, name: str) -> None:
        """Press finetune_``name`` once it can be seen."""
        self.page.locator(f"#finetune_{name}:visible").first.click(timeout=_WAIT_S * 1000)

    def shows(self, part: str, pattern: str, wait_s: float = _WAIT_S) -> str:
        """Wait until finetune_``part`` shows something that matches.

        Raises:
            AssertionError: it did not in time.
        """
        text = ""
        until = time.monotonic() + wait_s
        while time.monotonic() < until:
            text = str(self.page.inner_text(f"#finetune_{part}"))
            if re.search(pattern, text):
                return text
            self.rest(0.2)
        raise AssertionError(f"{part} never showed {pattern!r}; it shows {text[:600]!r}")

    def drop(self, folder: Path) -> None:
        """Drop a folder where images are dropped, as a file manager does."""
        box = self.page.locator("#finetune_files .finetune-drop").bounding_box()
        session = self.page.context.new_cdp_session(self.page)
        for step in ("dragEnter", "dragOver", "drop"):
            data = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
            session.send("Input.dispatchDragEvent", {"type": step, "x": box["x"] + 20, "y": box["y"] + 20, "data": data})

    def stroke(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """A stroke of the brush over a mask, between two places of it (0..1)."""
        box = self.page.locator(".finetune-mask-canvas").bounding_box()
        self.page.mouse.move(box["x"] + start[0] * box["width"], box["y"] + start[1] * box["height"])
        self.page.mouse.down()
        self.page.mouse.move(box["x"] + end[0] * box["width"], box["y"] + end[1] * box["height"], steps=8)
        self.page.mouse.up()

    def levels(self, file: Path, places: list[tuple[float, float]]) -> list[int]:
        """What an image file has at places (0..1), 0..255, read by the browser."""
        script = """([data, places]) => new Promise((take) => {
            const image = new Image();
            image.onload = () => {
                const canvas = Object.assign(document.createElement("canvas"), {width: image.width, height: image.height});
                const pen = canvas.getContext("2d");
                pen.drawImage(image, 0, 0);
                take(places.map(([x, y]) => pen.getImageData(Math.floor(x * image.width), Math.floor(y * image.height), 1, 1).data[0]));
            };
            image.src = data;
        })"""
        data = "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()
        return list(self.page.evaluate(script, [data, places]))

    def rest(self, seconds: float) -> None:
        """Wait, and let the browser's requests through meanwhile: they are looked at on their way."""
        if self.page is None:
            time.sleep(seconds)
        else:
            self.page.wait_for_timeout(seconds * 1000)

    def shoot(self, name: str, *, whole: bool = False) -> None:
        """A screenshot, where a folder for them was given."""
        if self.screenshots is not None:
            self.screenshots.mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=self.screenshots / f"{name}.png", full_page=whole)

    def close(self) -> None:
        """End browser and server."""
        self._browser.close()
        self._playwright.stop()
        self.server.terminate()
        self.server.wait(20)

    def until(self, holds: Any, what: str, wait_s: float = _WAIT_S) -> None:
        """Wait until something holds.

        Raises:
            AssertionError: it did not in time, or the server has ended.
        """
        until = time.monotonic() + wait_s
        while not holds():
            if time.monotonic() > until or self.server.poll() is not None:
                raise AssertionError(f"never: {what}. {(self.root / 'log.txt').read_text(encoding='utf-8')[-2000:]}")
            self.rest(0.2)


_WIDEST = """() => [...document.querySelectorAll('#finetune_root *')]
    .filter((one) => one.offsetParent && !one.closest('.finetune-film-row, .tab-nav, .finetune-plot, .finetune-menu, .finetune-table'))
    .map((one) => [Math.round(one.getBoundingClientRect().right), one.className || one.id]).sort((one, other) => other[0] - one[0])[0]"""
"""Where the widest of what is shown ends, in px, and what it is; strips that scroll by themselves are left out."""


# -- checks ------------------------------------------------------------------------------------------------------------


def wrong_input_is_said_where_the_eye_is(page: Page) -> str:
    """A folder that is not there, a name with a slash, text for a number: said together, and nothing starts."""
    page.open()
    page.shoot("empty")
    page.fill(images="/no/such/folder", name="a/b")
    page.press("train")
    said = page.shows("message", "/no/such/folder")
    page.fill(training_steps="many")
    page.press("train")
    unread = page.shows("message", "many")
    page.page.wait_for_selector("#finetune_training_steps.finetune-wrong .finetune-field-message")
    page.page.wait_for_selector("#finetune_name.finetune-wrong .finetune-field-message")
    assert "a/b" in said and "whole number" in unread, (said, unread)
    assert page.ask("/jobs")["jobs"] == []
    page.shoot("wrong-input")
    return said.replace("\n", " · ")[:200]


def dropped_pictures_are_shown_as_the_model_sees_them(page: Page) -> str:
    """Eight images are dropped; tiles show crop, size, caption and tokens."""
    page.open()
    files = sorted(str(path) for path in (page.root / "star").iterdir())
    page.page.locator("#finetune_files input[type=file]").set_input_files(files)
    page.shows("found", "8 images · 8 captions")
    page.fill(trigger="sks", class_word="star")
    page.page.click('#finetune_kind label:has-text("thing")')
    page.page.click(".finetune-view-as[data-view=list]")
    page.shows("gallery", "tokens")
    tiles = page.page.locator(".finetune-tile").count()
    assert tiles == 8, tiles
    page.page.wait_for_function("[...document.querySelectorAll('.finetune-tile img')].slice(0, 3).every(image => image.naturalWidth > 0)")
    page.shows("cards", "★ 8 images of a thing: LoRA")
    page.page.click(".finetune-view-as[data-view=grid]")
    page.shoot("pictures")
    page.page.locator(".finetune-tile .finetune-picture").first.click()
    page.page.wait_for_function("document.querySelector('.finetune-dialog[open] img').naturalWidth > 0")
    first = page.page.inner_text(".finetune-dialog-title")
    page.page.keyboard.press("ArrowRight")
    page.until(lambda: page.page.inner_text(".finetune-dialog-title") != first, "the next image is large")
    page.shoot("dialog")
    page.page.keyboard.press("Escape")
    page.until(lambda: not page.page.locator(".finetune-dialog[open]").count(), "Escape closes it")
    page.page.click(".finetune-view-as[data-view=list]")
    return f"{tiles} tiles"


def a_dropped_folder_comes_with_its_folders(page: Page) -> str:
    """A folder is dropped as from a file manager, of more files than the browser lists at once and than go in one request."""
    page.open()
    star = sorted((page.root / "star").glob("*.png"))
    pack = page.root / "pack"
    for folder in ("one", "two", "masks", ".hidden", "many", "more"):
        (pack / folder).mkdir(parents=True)
    for name, picture in (("one/p.png", star[0]), ("two/p.png", star[1]), ("masks/p.png", star[2]), (".hidden/p.png", star[3])):
        shutil.copy(picture, pack / name)
    rows = {"two/p.png": "of the table"}
    for number in range(110):
        shutil.copy(star[number % len(star)], pack / f"many/m{number}.png")
        rows[f"many/m{number}.png"] = f"number {number}"
    for number in (5, 60, 105):  # of a name that lies there by then, with its caption in a table of another request
        shutil.copy(star[3], pack / f"more/m{number}.png")
        rows[f"more/m{number}.png"] = f"more {number}"
    (pack / "one/p.txt").write_text("of its own", encoding="utf-8")
    (pack / "Thumbs.db").write_text("x", encoding="utf-8")
    table = "".join(json.dumps({"file_name": name, "text": text}) + "\n" for name, text in rows.items())
    (pack / "metadata.jsonl").write_text(table, encoding="utf-8")
    page.drop(pack)
    page.shows("found", "115 images · 115 captions")
    said = page.page.inner_text("#finetune_files")
    assert "2 (.hidden, Thumbs.db)" in said, said
    place = next(path for path in (page.root / "out/.finetune/datasets").iterdir() if any(path.glob("m109.*")))
    beside = {path.name: path.read_text(encoding="utf-8").strip() for path in place.glob("*.txt")}
    assert all(beside.get(f"m{number}-2.png.txt") in (f"more {number}", f"number {number}") for number in (5, 60, 105)), beside
    assert beside["p.txt"] == "of its own" and beside["p-2.png.txt"] == "of the table" and (place / "p-masklabel.png").is_file(), beside
    page.shoot("folder")
    return said.splitlines()[-1]


def a_caption_is_edited(page: Page) -> str:
    """A caption typed in a tile, with a pause, lies beside the image, and the tile shows it as it will be read."""
    tiles = page.page.locator(".finetune-tiles")
    tiles.evaluate("tiles => { tiles.scrollTop = 10; }")
    field = page.page.locator(".finetune-caption").first
    field.click()
    field.fill("a photo of sks star")
    stood = tiles.evaluate("tiles => tiles.scrollTop")  # where the browser brought the field into view
    page.rest(4)  # it is sent; who writes keeps the cursor
    page.page.keyboard.type(" on a green meadow")
    assert field.input_value() == "a photo of sks star on a green meadow", field.input_value()
    field.blur()
    page.until(lambda: _captions(page).get("001.txt") == "a photo of sks star on a green meadow\n", "the caption is beside the image")
    page.rest(1.5)
    page.until(lambda: "meadow" in page.page.locator(".finetune-read").first.inner_text(), "the tile shows it as it is read")
    assert "meadow" in page.page.locator(".finetune-caption").first.input_value()
    assert stood and tiles.evaluate("tiles => tiles.scrollTop") == stood, "the images have jumped"
    return _captions(page)["001.txt"].strip()


def _captions(page: Page) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in (page.root / "out/.finetune/datasets").rglob("*.txt")}


def a_mask_is_painted(page: Page) -> str:
    """With mouse, finger and keys; it is saved beside its image and shown on the tile, and what is not saved is asked for."""
    page.page.locator(".finetune-tile .finetune-picture").first.click()
    page.page.click(".finetune-mask-start")
    page.page.wait_for_selector(".finetune-mask-canvas")
    page.stroke((0.3, 0.5), (0.7, 0.5))
    questions: list[str] = []

    def stay(dialog: Any) -> None:
        questions.append(dialog.message)
        dialog.dismiss()

    page.page.once("dialog", stay)
    page.page.keyboard.press("Escape")
    page.until(lambda: questions, "it is asked before paint is lost")
    assert page.page.is_visible(".finetune-mask-canvas"), "what was painted is gone"
    page.page.click("button:has-text('Invert')")
    page.page.click("button:has-text('Undo')")
    page.page.click(".finetune-mask-tools button:has-text('Erase')")
    page.page.locator(".finetune-mask-canvas").focus()
    page.page.keyboard.press("Space")  # in the middle
    page.page.click("button:has-text('Save mask')")
    page.page.wait_for_selector(".finetune-dialog :text('is saved as 001-masklabel.png')")
    page.shoot("mask")
    file = next((page.root / "out/.finetune/datasets").rglob("001-masklabel.png"))
    levels = page.levels(file, [(0.5, 0.1), (0.32, 0.5), (0.5, 0.5)])
    assert levels == [0, 255, 0], levels
    page.page.click("button:has-text('Close the brush')")
    page.page.keyboard.press("Escape")
    page.page.wait_for_selector(".finetune-tile .finetune-badge:has-text('mask')")
    return f"{file.name}, {file.stat().st_size} bytes"


def what_does_not_apply_is_not_there(page: Page) -> str:
    """Fields of other methods are hidden; a setting is found by the name that others call it, marked when changed, and brought back."""
    page.page.click(".finetune-view-as[data-view=grid]")
    page.section("network")
    own = {"lora": "network_rank", "dreambooth": "tuning_text_encoder_until", "textual_inversion": "embedding_vectors"}
    shown = {}
    for method in ("dreambooth", "textual_inversion", "lora"):
        page.page.click(f'.finetune-card[data-method="{method}"]')
        page.page.wait_for_selector(f"#finetune_{own[method]}:visible")
        shown[method] = [name for name in own.values() if page.page.is_visible(f"#finetune_{name}")]
    assert shown == {method: [name] for method, name in own.items()}, shown
    page.page.click("#finetune_find")
    page.page.keyboard.type("lr")
    page.page.keyboard.press("Enter")
    assert page.page.evaluate("document.activeElement.closest('.block').id") == "finetune_optimizer_unet_rate"
    page.shoot("find")
    page.section("network")
    assert not page.page.is_visible("#finetune_network_conv_alpha")
    page.fill(network_conv_rank="4")
    page.page.wait_for_selector("#finetune_network_conv_alpha:visible")
    page.page.wait_for_selector("#finetune_network_conv_rank.finetune-changed")
    page.shoot("more-settings")
    page.page.click(".finetune-chip:has-text('Convolution rank') .finetune-reset")
    page.until(
        lambda: page.page.locator("#finetune_network_conv_rank textarea, #finetune_network_conv_rank input").first.input_value() == "0",
        "reset",
    )
    return "fields " + json.dumps(shown)


def a_forecast_is_made(page: Page) -> str:
    """Two steps are tried, and time, memory and disk said."""
    page.fill(data_resolution="128", training_steps="60", name="page-star")
    page.press("forecast")
    said = page.shows("tasks", r"steps of .* s \(tried at")
    page.shows("tasks", "It fits")
    page.shoot("forecast")
    return said.replace("\n", " ")[-260:]


def a_training_is_watched_and_survives_a_reload(page: Page) -> str:
    """Train, see steps, reload, see the same job; pause and go on; previews beside the base."""
    page.fill(
        training_steps="160",
        training_batch="2",
        preview_every="40",
        preview_steps="6",
        saving_every_steps="50",
        preview_prompts="a photo of sks star",
    )
    page.press("train")
    page.shows("message", "has been started")
    page.press("train")
    page.shows("message", "running or waits")
    page.shows("bar", r"page-star")
    page.page.click("#finetune_bar button:has-text('Open')")
    page.shows("panel", r"\b[1-9]\d*/160")
    page.open("dark")
    page.place("Runs")
    page.shows("panel", r"page-star.*")
    page.press("pause")
    page.shows("panel", "paused")
    before = page.ask("/jobs")["jobs"][0]["done"]
    page.rest(2)
    assert page.ask("/jobs")["jobs"][0]["done"] == before
    page.press("resume")
    page.page.wait_for_selector(".finetune-film img", timeout=120_000)
    page.shows("panel", "it/s|s/it")
    page.page.wait_for_selector("#finetune_plot canvas")
    page.rest(2)
    page.shoot("running-dark")
    return f"paused at step {before}"


def it_is_stopped_and_kept(page: Page) -> str:
    """Stop and keep: the file is there and the result can be used."""
    page.until(
        lambda: page.ask("/jobs")["jobs"][0]["done"] >= 101 or page.ask("/jobs")["jobs"][0]["state"] == "done",
        "100 steps are done",
        wait_s=_WORK_S,
    )
    if page.page.is_visible("#finetune_keep"):
        page.press("keep")
    page.shows("outcome", "page-star")
    job = page.ask("/jobs")["jobs"][0]
    assert job["state"] in ("done", "stopped") and Path(job["file"]).is_file(), job["message"]
    assert "<lora:page-star:0.8> sks star" in page.shows("outcome", "lora:page-star")
    page.open("light")
    page.place("Runs")
    page.shows("outcome", "lora:page-star")
    page.shows("panel", "works now")
    page.page.wait_for_selector("#finetune_plot .finetune-mark")
    page.shoot("ended")
    return f"{job['state']} at step {job['steps']}"


def a_point_is_picked(page: Page) -> str:
    """The file of an earlier step becomes the result."""
    page.page.click(".finetune-points button:has-text('Use this snapshot')")
    page.shows("message", "is step 50 now")
    job = page.ask("/jobs")["jobs"][0]
    assert job["steps"] == 50 and Path(job["file"]).is_file()
    page.page.click(".finetune-outcome button:has-text('Overdone')")
    said = page.shows("outcome", "Use it with weight|Take the file|learning rate")
    return said[-160:].replace("\n", " ")


def a_sheet_compares_points_and_weights(page: Page) -> str:
    """Base, points and weights on one sheet."""
    page.page.click(".finetune-outcome details summary")
    page.page.fill(".finetune-outcome [data-field=weights]", "0.6, 1")
    page.page.fill(".finetune-outcome [data-field=prompts]", "a photo of {trigger} star on a green background")
    page.page.click(".finetune-outcome button:has-text('Compare')")
    page.place("Compare")
    page.page.wait_for_selector("#finetune_sheets .finetune-item", timeout=_WORK_S * 1000)
    page.page.click("#finetune_sheets .finetune-picture")
    page.page.wait_for_function("document.querySelector('.finetune-dialog[open] img').naturalWidth > 300", timeout=_WAIT_S * 1000)
    page.shoot("sheet")
    page.page.keyboard.press("Escape")
    return page.ask("/sheets")[0]


def a_grid_is_made_of_what_is_chosen(page: Page) -> str:
    """Two snapshots on two seeds, with the base; a wrong weight is said at its field, and nothing typed is lost."""
    boxes = page.page.locator(".finetune-grid-form .finetune-grid-steps input")
    boxes.first.wait_for()
    for place in range(2):
        boxes.nth(place).check()
    form = ".finetune-grid-form [data-field=%s]"
    page.page.fill(form % "prompts", "a photo of {trigger} star")
    page.page.fill(form % "seeds", "3, 4")
    page.page.fill(form % "weights", "0.5, x")
    page.page.click(".finetune-grid-form button:has-text('Make the grid')")
    page.page.wait_for_selector(".finetune-grid-form .finetune-wrong .finetune-field-message", timeout=_WAIT_S * 1000)
    page.page.fill(form % "weights", "1")
    grids = len(page.ask("/sheets"))
    page.page.click(".finetune-grid-form button:has-text('Make the grid')")
    page.until(lambda: len(page.ask("/sheets")) > grids, "the grid is there", wait_s=_WORK_S)
    told = page.ask(f"/sheets/{page.ask('/sheets')[0]}/settings")
    assert told["rows"] == [["a photo of sks star", 3], ["a photo of sks star", 4]] and told["columns"][0][0] == "base"
    return ", ".join(label for label, _ in told["columns"])


def the_library_has_the_file(page: Page) -> str:
    """The file is a card that can be found, and downloaded whole."""
    page.place("Library")
    page.page.wait_for_selector("#finetune_library .finetune-item")
    page.page.fill("#finetune_library .finetune-filter", "no such file")
    assert not page.page.locator("#finetune_library .finetune-item:visible").count()
    page.page.fill("#finetune_library .finetune-filter", "page-star")
    with page.page.expect_download() as download:
        page.page.locator("#finetune_library .finetune-item:visible a:has-text('Download')").first.click()
    size = Path(download.value.path()).stat().st_size
    assert size > 1000, size
    page.shoot("library")
    return f"{download.value.suggested_filename}, {size} bytes"


def the_queue_is_moved_and_cancelled(page: Page) -> str:
    """Jobs wait, change places, and are taken out."""
    page.open()
    urllib.request.urlopen(urllib.request.Request(page.address + "/finetune/v1/queue/hold", method="POST")).close()
    page.page.wait_for_timeout(1500)
    for name in ("second-star", "third-star"):
        page.fill(name=name)
        page.press("train")
        page.shows("message", name)
    page.place("Runs")
    page.shows("queue", r"(?s)second-star.*third-star")
    page.page.locator("#finetune_queue .finetune-run:has-text('third-star') button[title=earlier]").click()
    page.shows("queue", r"(?s)third-star.*second-star")
    page.shoot("queue")
    for name in ("third-star", "second-star"):
        page.page.locator(f"#finetune_queue .finetune-run:has-text('{name}') button:has-text('Cancel')").click()
        page.until(lambda name=name: name not in page.page.inner_text("#finetune_queue"), f"{name} is gone")
    assert page.ask("/jobs")["queue"] == []
    return "moved and cancelled"


def _train(page: Page, name: str, steps: int) -> None:
    """Start a training of the form, and wait until it runs."""
    page.fill(name=name, training_steps=str(steps), saving_state_every="10", preview_every="0")
    page.press("train")
    page.shows("message", f"{name}.*has been started")
    page.place("Runs")
    page.until(lambda: page.job(name)["done"] >= 1, "a step is done", wait_s=_WORK_S)


def two_pages_show_one_training(page: Page) -> str:
    """What is paused on one page is paused on the other, which goes on with it."""
    urllib.request.urlopen(urllib.request.Request(page.address + "/finetune/v1/queue/go", method="POST")).close()
    page.open()
    page.page.locator("#finetune_files input[type=file]").set_input_files(sorted(str(path) for path in (page.root / "star").iterdir()))
    page.shows("found", "8 images")
    page.fill(trigger="sks", class_word="star", data_resolution="128")
    _train(page, "two-pages", 4000)
    second = page.another()
    second.click("#finetune_places > .tab-nav > button:has-text('Runs')")
    second.locator("#finetune_pause:visible").click(timeout=_WAIT_S * 1000)
    page.shows("panel", "paused")
    page.press("resume")
    second.wait_for_selector("#finetune_pause:visible", timeout=_WAIT_S * 1000)
    second.close()
    return f"paused and resumed at step {page.job('two-pages')['done']}"


def the_page_goes_offline_and_comes_back(page: Page) -> str:
    """Without a network nothing is lost and no script fails; afterwards the page shows how far the training is by then."""
    page.place("Runs")
    page.page.context.set_offline(True)
    page.rest(4)
    page.shoot("offline")
    assert page.page.is_visible("#finetune_panel"), "the page has gone"
    page.page.context.set_offline(False)
    before = page.job("two-pages")["done"]

    def goes_on() -> bool:
        shown = re.search(r"(\d+)/4000", page.page.inner_text("#finetune_panel"))
        return shown is not None and int(shown[1]) >= before

    page.until(goes_on, "the panel goes on", wait_s=_WORK_S)
    return f"at step {before}"


def the_server_is_killed_and_the_run_resumes(page: Page) -> str:
    """After a crash the run is offered, goes on from its last state, and its result is kept."""
    page.until(lambda: page.job("two-pages")["done"] >= 20, "a state is saved", wait_s=_WORK_S)
    page.kill()
    page.rest(2)
    page.shoot("killed")
    page.start()
    page.open()
    page.place("Runs")
    page.page.locator(".finetune-run:has-text('two-pages') button:has-text('Resume')").first.click(timeout=_WAIT_S * 1000)
    page.shows("message", "is resumed")
    page.until(lambda: page.job("two-pages")["state"] == "running", "it runs again", wait_s=_WORK_S)
    done = page.job("two-pages")["done"]
    page.rest(1)
    page.press("keep")
    page.until(lambda: page.job("two-pages")["state"] in ("stopped", "done"), "it is kept", wait_s=_WORK_S)
    assert Path(page.job("two-pages")["file"]).is_file()
    return f"resumed, {done} steps done"


def a_result_is_used_and_deleted(page: Page) -> str:
    """Its tag is there to take along; the file goes with its sidecars after a question."""
    page.place("Runs")
    page.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.page.locator("#finetune_outcome .finetune-use").first.click(timeout=_WAIT_S * 1000)
    page.until(lambda: "lora:two-pages" in page.page.evaluate("navigator.clipboard.readText()"), "the tag is in the clipboard")
    file = Path(page.job("two-pages")["file"])
    page.place("Library")
    page.page.fill("#finetune_library .finetune-filter", "two-pages")
    card = page.page.locator("#finetune_library .finetune-item:visible").first
    card.locator(".finetune-menu > summary").click(timeout=_WAIT_S * 1000)
    questions: list[str] = []

    def agree(dialog: Any) -> None:
        questions.append(dialog.message)
        dialog.accept()

    page.page.once("dialog", agree)
    card.locator("button:text-is('Delete')").click()
    page.until(lambda: not file.exists(), "the file is gone")
    assert questions and file.name in questions[0], questions
    assert not list(file.parent.glob(f"{file.stem}*")), "a sidecar stays"
    return questions[0]


def it_fits_a_phone(page: Page) -> str:
    """No sideways scrolling at 390 px, in both themes."""
    for theme in ("light", "dark"):
        page.open(theme, 390, 840)
        for title in ("Train", "Runs", "Compare", "Library", "Tools"):
            page.place(title)
            page.page.wait_for_timeout(1500)
            wide = page.page.evaluate(_WIDEST)
            page.shoot(f"phone-{theme}-{title.lower()}")
            assert wide[0] <= 391, f"{title} is {wide} px wide"
    return "390 px"


def keys_alone_reach_train(page: Page) -> str:
    """Tab from the first field comes to the cards and to Train; Enter on a card chooses it."""
    page.open()
    page.page.locator("#finetune_images textarea, #finetune_images input").first.focus()
    reached = []
    for _ in range(40):
        page.page.keyboard.press("Tab")
        here = page.page.evaluate("document.activeElement.dataset.method || document.activeElement.id || ''")
        reached.append(here)
        if here == "textual_inversion":
            page.page.keyboard.press("Enter")
            page.page.wait_for_selector('.finetune-card.finetune-chosen[data-method="textual_inversion"]')
        if here == "finetune_train":
            break
    assert "finetune_train" in reached and "textual_inversion" in reached, reached
    return f"Train after {len(reached)} tabs"


def the_console_is_quiet(page: Page) -> str:
    """No script error, and no traceback on the server's side."""
    log = (page.root / "log.txt").read_text(encoding="utf-8")
    assert not page.errors, page.errors[:3]
    assert "Traceback" not in log, log[-1500:]
    return f"{len(log.splitlines())} lines"


CHECKS = (
    wrong_input_is_said_where_the_eye_is,
    a_dropped_folder_comes_with_its_folders,
    dropped_pictures_are_shown_as_the_model_sees_them,
    a_caption_is_edited,
    a_mask_is_painted,
    what_does_not_apply_is_not_there,
    a_forecast_is_made,
    a_training_is_watched_and_survives_a_reload,
    it_is_stopped_and_kept,
    a_point_is_picked,
    a_sheet_compares_points_and_weights,
    a_grid_is_made_of_what_is_chosen,
    the_library_has_the_file,
    the_queue_is_moved_and_cancelled,
    two_pages_show_one_training,
    the_page_goes_offline_and_comes_back,
    the_server_is_killed_and_the_run_resumes,
    a_result_is_used_and_deleted,
    it_fits_a_phone,
    keys_alone_reach_train,
    the_console_is_quiet,
)


def main() -> int:
    """Run all checks in their order."""
    parser = argparse.ArgumentParser(prog="bench.page.driver", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, required=True)
    parser.add_argument("--port", type=int, default=7873)
    parser.add_argument("--screenshots", type=Path)
    parser.add_argument("--stop", action="store_true", help="at the first failure")
    parser.add_argument("--only", nargs="*", default=[])
    given = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="finetune-page-"))
    python = given.python.absolute()
    subprocess.run(
        [python, "-m", "bench", "nano", "subject", "winking-star", str(root / "star")],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    page = Page(python, given.port, root, given.screenshots)
    failed = 0
    try:
        for check in CHECKS:
            if given.only and check.__name__ not in given.only:
                continue
            began = time.monotonic()
            try:
                said, result = check(page), "ok"
            except Exception as error:  # noqa: BLE001  the other checks still have something to tell
                said, result, failed = f"{type(error).__name__}: {error}"[:900], "FAIL", failed + 1
                page.shoot(f"failed-{check.__name__}")
            print(f"{result:5} {time.monotonic() - began:6.1f} s  {check.__name__.replace('_', ' '):52}  {said}", flush=True)
            if failed and given.stop:
                break
    finally:
        page.close()
    print(f"{failed} FAIL; files: {root}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
