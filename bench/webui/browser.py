"""The tab in a headless Chromium, through playwright; without it the driver leaves out what only a browser sees."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

_FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
)
_WAIT_MS = 180_000
_ON_TRAIN = ("train", "forecast", "word", "write_captions")


PLACES = ("Train", "Runs", "Compare", "Library", "Tools")


class Browser:
    """One page. Console errors are collected in `errors`."""

    def __init__(self, port: int, profile: Path) -> None:
        """
        Raises:
            ImportError: playwright is not installed.
            RuntimeError: no Chromium was found.
        """
        from playwright.sync_api import sync_playwright

        chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        if chromium is None:
            raise RuntimeError("no Chromium was found")
        self.errors: list[str] = []
        self._address = f"http://127.0.0.1:{port}"
        self._playwright = sync_playwright().start()
        self._context = self._playwright.chromium.launch_persistent_context(
            profile, executable_path=chromium, headless=True, args=_FLAGS.split(), viewport={"width": 1280, "height": 900}
        )
        self.page: Any = self._context.pages[0]
        self.page.set_default_timeout(_WAIT_MS)
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        # Fonts and the like from elsewhere are cut at once instead of timing out.
        self.page.route(lambda address: not address.startswith(self._address), lambda route: route.abort())

    def open(self) -> float:
        """Load the page, go to the tab; returns seconds."""
        begin = time.monotonic()
        self.page.goto(self._address + "/?__theme=light", wait_until="domcontentloaded", timeout=_WAIT_MS)
        self.page.wait_for_selector("#txt2img_generate")
        self.page.click('#tabs > .tab-nav > button:has-text("Finetune")')
        self.page.wait_for_selector("#finetune_train")
        return time.monotonic() - begin

    def open_lora_page(self) -> None:
        """Let txt2img show its Lora files, then come back to the tab."""
        self.page.click('#tabs > .tab-nav > button:has-text("txt2img")')
        self.page.click('#txt2img_extra_tabs > .tab-nav > button:has-text("Lora")')
        self.page.wait_for_selector("#txt2img_lora_cards_html, #txt2img_lora_cards", state="attached")
        self.page.click('#tabs > .tab-nav > button:has-text("Finetune")')

    def lists_lora(self, name: str) -> bool:
        """Whether txt2img's Lora page, as it stands, has come to show a file."""
        from playwright.sync_api import TimeoutError as PlaywrightTimeout

        try:
            self.page.wait_for_selector(f'#txt2img_extra_tabs .card[data-name="{name}"]', state="attached", timeout=20_000)
        except PlaywrightTimeout:
            return False
        return True

    def leave(self) -> None:
        """Close the page, so that it asks nothing of the WebUI."""
        self.page.goto("about:blank")

    def close(self) -> None:
        """End the browser."""
        self._context.close()
        self._playwright.stop()

    def tabs(self) -> list[str]:
        """Titles of the WebUI's tabs, in order."""
        return [title.strip() for title in self.page.locator("#tabs > .tab-nav > button").all_inner_texts()]

    def fill(self, **values: str) -> None:
        """Type into fields of the place Train, showing the section they lie in: finetune_``name``=value."""
        self.place("Train")
        facts = json.loads(self.page.get_attribute("#finetune_defaults", "data-defaults"))
        for name, value in values.items():
            field = self.page.locator(f"#finetune_{name} textarea, #finetune_{name} input").first
            if f"finetune_{name}" in facts and not field.is_visible():
                self.page.click(f".finetune-pill[data-section={facts[f'finetune_{name}']['section']}]")
            field.fill(value)

    def place(self, title: str) -> None:
        """Go to one of the tab's five places."""
        # by its number: a page in another language has other titles
        self.page.locator("#finetune_places > .tab-nav > button").nth(PLACES.index(title)).click()

    def press(self, name: str) -> None:
        """Press finetune_``name`` in the place where it is, once it can be seen."""
        self.place("Train" if name in _ON_TRAIN else "Runs")
        self.page.locator(f"#finetune_{name}:visible").first.click()

    def message(self) -> str:
        """Wait for the message above Train."""
        self.page.wait_for_selector("#finetune_message .finetune-problems")
        return str(self.page.inner_text("#finetune_message"))

    def panel(self, pattern: str, timeout_s: float = 600) -> str:
        """Wait until the panel's text matches, and return it.

        Raises:
            AssertionError: it did not in time.
        """
        self.place("Runs")
        until = time.monotonic() + timeout_s
        text = ""
        while time.monotonic() < until:
            log = self.page.locator("#finetune_plot .finetune-log").all_text_contents()  # folded up, and filled by the page's script
            text = "\n".join([self.page.inner_text("#finetune_panel"), *log])
            if re.search(pattern, text):
                return str(text)
            time.sleep(0.3)
        raise AssertionError(f"the panel never showed {pattern!r}; it shows {text!r}")

    def shoot(self, path: Path | None) -> None:
        """A screenshot, if a place for it was given."""
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.page.evaluate("window.scrollTo(0, 0)")
            self.page.screenshot(path=path)


def browser_at(port: int, profile: Path) -> Browser | None:
    """A browser for the page on a port; None, with the reason printed, where there is none."""
    try:
        return Browser(port, profile)
    except (ImportError, RuntimeError) as error:
        print(f"without a browser: {error}", flush=True)
        return None
