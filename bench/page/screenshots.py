"""Screenshots of the tab to look at: about forty, chosen pairwise over place, theme, width, language and state, and what axe-core says of each.

    python -m bench.page.screenshots --python .venv/bin/python [--into screenshots-output] [--port P]
    python -m bench.page.screenshots --url http://127.0.0.1:7860 [--into screenshots-output]

The first serves the page itself and brings it into each state; the second takes a WebUI that runs as it is, in the language that it has. The
Python that runs this needs playwright and axe-playwright-python, and the machine Chromium. Exit code 1 when axe-core finds something serious.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.page import axe, pairwise
from bench.page.driver import FLAGS, ROOT, Page

PLACES = ("Train", "Runs", "Compare", "Library", "Tools")
WIDTHS = ("1920", "1400", "768", "390")
FACTORS = {
    "state": ("empty", "broken", "running", "done"),
    "place": PLACES,
    "width": WIDTHS,
    "theme": ("light", "dark"),
    "language": ("en", "zh_CN"),
}
"""Of the page alone; the states in the order in which they come."""
OF_A_WEBUI = {"place": PLACES, "width": WIDTHS, "theme": ("light", "dark")}
_COUNT = 40
_HEIGHT = 1000
_SETTLED_S = 2.5
_TRANSLATE = (ROOT / "javascript" / "finetune_localization.js").read_text(encoding="utf-8")
_CHINESE = (ROOT / "localizations" / "zh_CN.json").read_text(encoding="utf-8")


def name_of(row: pairwise.Row) -> str:
    """The file of a row, without its ending."""
    return "-".join(row.values()).lower()


def ask(page: Page, method: str, path: str, values: Any = None) -> Any:
    """An answer of the API to a request that changes something."""
    body = None if values is None else json.dumps(values).encode()
    request = urllib.request.Request(f"{page.address}/finetune/v1{path}", body, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


# -- states ------------------------------------------------------------------------------------------------------------


def training(name: str, images: Path, steps: int) -> dict[str, Any]:
    """Settings of a small LoRA training."""
    return {
        "name": name,
        "data": {"images": str(images), "trigger": "sks", "class_word": "star", "resolution": 128},
        "training": {"steps": steps, "batch": 2},
        "preview": {"every": 15, "steps": 6, "prompts": "a photo of sks star"},
        "saving": {"every_steps": 20},
    }


def make_broken(page: Page) -> None:
    """A run whose images are gone when its turn comes, and a folder with an image that is cut off and a caption that is too long."""
    gone = page.root / "gone"
    shutil.copytree(page.root / "star", gone)
    ask(page, "POST", "/queue/hold")
    ask(page, "POST", "/jobs", training("lost-star", gone, 60))
    shutil.rmtree(gone)
    ask(page, "POST", "/queue/go")
    page.until(lambda: page.job("lost-star")["state"] == "failed", "the run has failed")
    broken = page.root / "broken"
    shutil.copytree(page.root / "star", broken)
    first, second = sorted(broken.glob("*.png"))[:2]
    first.write_bytes(first.read_bytes()[:300])
    second.with_suffix(".txt").write_text("a star, " * 60, encoding="utf-8")


def make_running(page: Page) -> None:
    """A long training that has previews already, and one that waits."""
    ask(page, "POST", "/jobs", training("night-star", page.root / "star", 20_000))
    ask(page, "POST", "/jobs", training("next-star", page.root / "star", 80))
    page.until(lambda: page.job("night-star")["done"] >= 45, "45 steps are done", wait_s=900)


def make_done(page: Page) -> None:
    """The training is stopped and its result kept, and a comparison grid of it made."""
    running = page.job("night-star")["id"]
    ask(page, "DELETE", f"/jobs/{page.job('next-star')['id']}")
    ask(page, "POST", f"/jobs/{running}/stop", {"keep": True})
    page.until(lambda: page.ask(f"/jobs/{running}")["state"] in ("done", "stopped"), "the result is there", wait_s=600)
    ask(page, "POST", f"/jobs/{running}/sheet", {"prompts": ["a photo of sks star on a green background"], "weights": [0.6, 1.0]})
    page.until(lambda: page.ask("/sheets"), "the comparison grid is there", wait_s=600)


MAKE: dict[str, Callable[[Page], None]] = {"empty": lambda page: None, "broken": make_broken, "running": make_running, "done": make_done}


def fill(page: Page, state: str) -> None:
    """What a person has typed in this state."""
    if state == "broken":
        page.fill(images=str(page.root / "broken"), name="a/b", trigger="sks", class_word="star")
        page.page.wait_for_selector(".finetune-tile")
        page.press("train")
        page.page.wait_for_selector("#finetune_name.finetune-wrong")
    elif state != "empty":
        page.fill(images=str(page.root / "star"), trigger="sks", class_word="star", name="next-star")
        page.page.wait_for_selector(".finetune-tile")


# -- taking them -------------------------------------------------------------------------------------------------------


def translate(page: Any) -> None:
    """Put the page into Chinese, as the WebUI does for an extension."""
    page.evaluate(
        "([table, script]) => { window.localization = JSON.parse(table); window.gradioApp = () => document;"
        " window.onUiLoaded = (start) => start(); (0, eval)(script); }",
        [_CHINESE, _TRANSLATE],
    )


def shoot(page: Any, row: pairwise.Row, into: Path) -> list[str]:
    """The whole of one page as a file; returns what axe-core found in it."""
    page.wait_for_timeout(_SETTLED_S * 1000)
    page.screenshot(path=into / f"{name_of(row)}.png", full_page=True)
    return axe.violations(page)


def of_the_page(python: Path, port: int, into: Path, only: list[str]) -> dict[str, list[str]]:
    """Screenshots of the page without the WebUI: name → what axe-core found."""
    root = Path(tempfile.mkdtemp(prefix="finetune-screens-"))
    star = [str(python), "-m", "bench", "nano", "subject", "winking-star", str(root / "star")]
    subprocess.run(star, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    found: dict[str, list[str]] = {}
    page = Page(python, port, root, None)
    try:
        for state in FACTORS["state"]:
            MAKE[state](page)
            for row in pairwise.rows(FACTORS, _COUNT):
                if row["state"] != state or (only and not any(part in name_of(row) for part in only)):
                    continue
                page.open(row["theme"], int(row["width"]), _HEIGHT)
                if row["language"] != "en":
                    translate(page.page)
                fill(page, state)
                page.page.locator("#finetune_places > .tab-nav > button").nth(PLACES.index(row["place"])).click()
                found[name_of(row)] = shoot(page.page, row, into)
                print(name_of(row), *found[name_of(row)], sep="\n   ", flush=True)
    finally:
        page.close()
    return found


def of_a_webui(url: str, into: Path) -> dict[str, list[str]]:
    """Screenshots of a WebUI that runs: name → what axe-core found."""
    from playwright.sync_api import sync_playwright

    found: dict[str, list[str]] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS.split())
        for row in pairwise.rows(OF_A_WEBUI, _COUNT // 2):
            page = browser.new_page(viewport={"width": int(row["width"]), "height": _HEIGHT})
            page.goto(f"{url.rstrip('/')}/?__theme={row['theme']}", wait_until="domcontentloaded")
            page.wait_for_selector("#finetune_train", state="attached", timeout=120_000)
            page.locator("#tabs > .tab-nav > button", has_text="Finetune").click()
            page.locator("#finetune_places > .tab-nav > button").nth(PLACES.index(row["place"])).click()
            found[name_of(row)] = shoot(page, row, into)
            print(name_of(row), *found[name_of(row)], sep="\n   ", flush=True)
            page.close()
        browser.close()
    return found


def main() -> int:
    """Take all, and say what axe-core found."""
    parser = argparse.ArgumentParser(
        prog="bench.page.screenshots", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--python", type=Path, help="serves the page")
    source.add_argument("--url", help="of a WebUI that runs")
    parser.add_argument("--into", type=Path, default=ROOT / "screenshots-output")
    parser.add_argument("--port", type=int, default=7874)
    parser.add_argument("--only", nargs="*", default=[], help="parts of names")
    given = parser.parse_args()
    given.into.mkdir(parents=True, exist_ok=True)
    found = of_a_webui(given.url, given.into) if given.url else of_the_page(given.python.absolute(), given.port, given.into, given.only)
    faulty = [name for name, rules in found.items() if rules]
    print(f"{len(found)} screenshots in {given.into}; axe-core finds something serious in {len(faulty)}", flush=True)
    return 1 if faulty else 0


if __name__ == "__main__":
    sys.exit(main())
