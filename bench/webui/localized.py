"""The tab in a WebUI that is set to Chinese, and captions by the WebUI's own deepbooru.

    python -m bench.webui.localized --webui DIR --python PYTHON --checkpoint FILE [--port P] [--screenshots DIR]

Needs playwright and Chromium. Prints every text of the tab that is still English; exit code 1 when one is left.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.webui.browser import Browser
from bench.webui.files import draw
from bench.webui.webui import WebUI

# A tagger of random weights says two tags of any image: the last layer's inputs are never negative.
_TAGGER = """
import sys, torch
from modules import deepbooru_model
model = deepbooru_model.DeepDanbooruModel()
last = model.n_Conv_178.weight.data
last.fill_(-1.0)[:2] = 1.0
tags = ["red_disc", "sky_(blue)"] + [f"tag_{n}" for n in range(2, len(last))]
torch.save({**model.state_dict(), "tags": tags}, sys.stdin.read(), _use_new_zipfile_serialization=False)
"""
_ENGLISH = """() => {
    const found = [];
    const walk = document.createTreeWalker(document.querySelector("#tab_finetune"), NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
        const parent = walk.currentNode.parentElement;
        if (parent.offsetParent === null || parent.closest("[translate=no]")) continue;
        if (["TEXTAREA", "SCRIPT", "STYLE", "CODE"].includes(parent.nodeName)) continue;
        const text = walk.currentNode.textContent.trim();
        if (/[A-Za-z]{3}/.test(text) && !/[\\u4e00-\\u9fff]/.test(text)) found.push(text);
    }
    return [...new Set(found)];
}"""
_NAMES = re.compile(
    r"(LoRA ★?|LoRA|LoHa|LoKr|DreamBooth|Alpha|UNet|Min-SNR gamma|adamw|adamw8bit|adafactor|lion|prodigy|ckpt|safetensors|mse|huber|fp32|fp16|bf16"
    r"|\S+\.png|\d+.*\b(it/s|s/it|GB|MB|KB)|localisiert.*|[\d.: ]+)"
)
"""What stays as it is: names, units and what the person has written."""


def check(webui: WebUI, browser: Browser, pictures: Path, screenshots: Path | None) -> list[str]:
    """Drive the tab once through; returns the texts that are English."""
    page = browser.page
    page.goto(f"http://127.0.0.1:{webui.port}/?__theme=light", wait_until="domcontentloaded")
    page.wait_for_selector("#txt2img_generate")
    page.locator("#tabs > .tab-nav > button", has_text=re.compile("Finetune")).click()
    page.wait_for_selector("#finetune_write_captions:visible")
    browser.fill(images="/no/such/folder", name="a/b")
    page.locator("#finetune_train").click()
    page.wait_for_selector("#finetune_message .finetune-problems")
    left = set(page.evaluate(_ENGLISH))
    browser.shoot(screenshots and screenshots / "chinese-error.png")
    browser.fill(images=str(pictures), trigger="zxq", class_word="cat", name="localisiert")
    page.locator("#finetune_class_word input, #finetune_class_word textarea").first.press("Enter")
    page.wait_for_selector(".finetune-tile")
    _write_captions(browser, pictures)
    for section in page.locator(".finetune-pill:visible").all():
        section.click()
        left |= set(page.evaluate(_ENGLISH))
    places = page.locator("#finetune_places > .tab-nav > button")
    for number in range(places.count()):
        places.nth(number).click()
        page.wait_for_timeout(3000)
        left |= set(page.evaluate(_ENGLISH))
    places.nth(3).click()
    page.click("#finetune_measure")
    page.wait_for_selector("#finetune_storage table")
    left |= set(page.evaluate(_ENGLISH))
    places.nth(0).click()
    browser.shoot(screenshots and screenshots / "chinese-settings.png")
    facts = json.loads(page.get_attribute("#finetune_defaults", "data-defaults"))
    for name, value in {"training_steps": "30", "data_resolution": "128", "preview_steps": "3"}.items():
        page.click(f".finetune-pill[data-section={facts[f'finetune_{name}']['section']}]")
        page.locator(f"#finetune_{name} textarea, #finetune_{name} input").first.fill(value)
    page.locator("#finetune_train").click()
    places.nth(1).click()
    page.wait_for_selector("#finetune_plot canvas")
    left |= set(page.evaluate(_ENGLISH))
    browser.shoot(screenshots and screenshots / "chinese-running.png")
    page.wait_for_selector("#finetune_panel .finetune-done")
    page.wait_for_timeout(2500)
    left |= set(page.evaluate(_ENGLISH))
    browser.shoot(screenshots and screenshots / "chinese-done.png")
    return sorted(text for text in left if not _NAMES.fullmatch(text))


def _write_captions(browser: Browser, pictures: Path) -> None:
    """Each image without a caption gets one from deepbooru, and the gallery shows it; a caption that is there stays."""
    own = pictures / "0.txt"
    own.write_text("mine", encoding="utf-8")
    browser.page.click("#finetune_captioner input")
    browser.page.locator("#finetune_captioner li", has_text="deepbooru").click()
    browser.page.click("#finetune_write_captions")
    begin = time.monotonic()
    browser.page.wait_for_function("document.querySelector('#finetune_gallery').innerHTML.includes('red disc')")
    written = {path.stem: path.read_text(encoding="utf-8").strip() for path in pictures.glob("*.txt")}
    assert written.pop("0") == "mine" and set(written.values()) == {"red disc, sky (blue)"}, written
    print(f"ok    captions of {len(written)} images by deepbooru in {time.monotonic() - begin:.0f} s: {written['1']!r}", flush=True)


def main() -> int:
    """Start, look, end."""
    parser = argparse.ArgumentParser(
        prog="bench.webui.localized", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("webui", "python", "checkpoint"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--port", type=int, default=7896)
    parser.add_argument("--screenshots", type=Path)
    given = parser.parse_args()
    data = Path(tempfile.mkdtemp(prefix="finetune-localized-"))
    webui = WebUI(given.webui.absolute(), given.python.absolute(), data, given.port)
    webui.prepare([given.checkpoint])
    settings = json.loads((data / "config.json").read_text(encoding="utf-8"))
    (data / "config.json").write_text(json.dumps({**settings, "localization": "zh_CN"}), encoding="utf-8")
    tagger = data / "models" / "torch_deepdanbooru" / "model-resnet_custom_v3.pt"
    tagger.parent.mkdir(parents=True)
    subprocess.run([str(webui.python), "-c", _TAGGER], cwd=webui.app, check=True, capture_output=True, text=True, input=str(tagger))
    try:
        webui.start()
        browser = Browser(webui.port, Path(tempfile.mkdtemp(prefix="finetune-profile-")))
        english = check(webui, browser, draw(Path(tempfile.mkdtemp(prefix="finetune-pictures-"))), given.screenshots)
        browser.close()
    finally:
        webui.kill()
    for text in english:
        print(f"FAIL  still English: {text}", flush=True)
    print("ok    everything is Chinese" if not english else f"{len(english)} texts are English")
    return 1 if english else 0


if __name__ == "__main__":
    sys.exit(main())
