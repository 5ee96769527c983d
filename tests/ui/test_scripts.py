"""The scripts of the page, in the order in which the WebUI loads them."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).resolve().parents[2] / "javascript").glob("*.js"))
WATCH = 'addEventListener("error", (event) => { document.documentElement.dataset.errors = event.message; });'


@pytest.mark.browser
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_runs_through_in_a_head_before_there_is_a_body(tmp_path, script):
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no Chromium (a program named chromium) on this machine")
    shutil.copy(script, tmp_path / script.name)
    (tmp_path / "page.html").write_text(
        f'<html><head><script>{WATCH}</script><script src="{script.name}"></script></head><body></body></html>'
    )
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    command = [chromium, *flags, (tmp_path / "page.html").as_uri()]
    dom = subprocess.run(command, text=True, capture_output=True, check=True, timeout=60).stdout
    assert script.name in dom and "data-errors" not in dom
