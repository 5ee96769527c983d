"""The page of its own: what it loads."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
THIRD_PARTY = ROOT / "javascript" / "third_party"

pytest.importorskip("gradio", reason="gradio belongs to the WebUI's library set")


def test_the_page_has_all_scripts_that_the_webui_loads_but_the_translation():
    from lib_finetune.ui import page

    text = page.scripts()
    assert all(name in text for name in ("finetune-dialog", "finetune_chips", "uPlot.iife.min.js", "goTo")) and "translateUnder" not in text


def test_the_plots_library_is_served_and_lies_here_with_its_licence():
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    from lib_finetune.ui import page

    def nothing():
        raise RuntimeError("no services")

    client = TestClient(page.mounted(FastAPI(), nothing, list))
    for name in ("uPlot.iife.min.js", "uPlot.min.css"):
        assert client.get(f"/finetune/third_party/{name}").content == (THIRD_PARTY / name).read_bytes()
    assert client.get("/finetune/third_party/../finetune.js").status_code == 404
    assert "MIT" in (THIRD_PARTY / "uPlot.LICENSE.txt").read_text(encoding="utf-8")


def test_scripts_load_nothing_from_elsewhere():
    for path in (*(ROOT / "javascript").rglob("*.js"), *THIRD_PARTY.glob("*.css"), ROOT / "style.css"):
        addresses = re.findall(r"""["'(](https?:)?//[\w.]+""", path.read_text(encoding="utf-8"))
        assert not addresses, path


def test_the_webui_loads_no_file_of_the_subfolder_by_itself():
    assert {path.name for path in (ROOT / "javascript").glob("*.js")} == {
        "finetune.js", "finetune_dialog.js", "finetune_localization.js", "finetune_mask.js", "finetune_plot.js", "finetune_settings.js",
    }  # fmt: skip
