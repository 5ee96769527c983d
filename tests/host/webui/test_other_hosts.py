"""Another program that loads the WebUI's extensions is told at the start."""

from __future__ import annotations

import importlib.util
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from lib_finetune.host.webui import other_hosts
from lib_finetune.host.webui.other_hosts import refusal, refuses_model

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def program(tmp_path, monkeypatch):
    """The folder of a program, on the path as those that the WebUI runs from."""
    (tmp_path / "modules").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(other_hosts, "_gradio", lambda: "3.41.2")
    return tmp_path


def package(folder):
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    importlib.invalidate_caches()


def test_the_webui_itself_is_no_other(program):
    assert refusal(program) == ""


@pytest.mark.parametrize("name", ["modules_forge", "backend"])
def test_forge_is_told_by_its_packages(program, name):
    package(program / name)
    assert "Forge" in refusal(program) and "quickstart.py ui" in refusal(program)


def test_a_package_of_that_name_that_lies_elsewhere_says_nothing(program, tmp_path_factory, monkeypatch):
    elsewhere = tmp_path_factory.mktemp("site-packages")
    package(elsewhere / "backend")
    monkeypatch.syspath_prepend(str(elsewhere))
    assert refusal(program) == ""


def test_sd_next_is_told_by_its_modules(program):
    (program / "modules" / "sd_hijack_accelerate.py").touch()
    assert "SD.Next" in refusal(program)


@pytest.mark.parametrize(("version", "is_other"), [("3.41.2", False), ("3.41.0", False), ("4.40.0", True), ("3.43.2", True), ("", False)])
def test_another_gradio_is_another_program(program, monkeypatch, version, is_other):
    monkeypatch.setattr(other_hosts, "_gradio", lambda: version)
    assert bool(refusal(program)) is is_other and (not is_other or version in refusal(program))


def test_the_programs_folder_is_told_by_its_own_module(program, monkeypatch):
    package(program / "modules_forge")
    monkeypatch.setitem(sys.modules, "modules.paths_internal", SimpleNamespace(script_path=str(program)))
    assert "Forge" in refusal()


def test_a_model_of_forge_is_not_borrowed():
    assert "Forge" in refuses_model(SimpleNamespace(forge_objects=object()))
    assert refuses_model(SimpleNamespace(model=object())) == ""


def test_gradio_is_looked_up_and_not_imported(monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda name: {"gradio": "4.40.0"}[name])
    assert other_hosts._gradio() == "4.40.0"


# -- what the person sees there ------------------------------------------------------------------------------------------


@pytest.fixture
def script(program, monkeypatch):
    """scripts/finetune.py, run as the WebUI runs it, and what it registered."""
    pytest.importorskip("gradio")
    package(program / "modules_forge")
    registered = {}
    callbacks = SimpleNamespace(
        on_ui_tabs=lambda function: registered.setdefault("tab", function),
        on_app_started=lambda function: registered.setdefault("routes", function),
    )
    modules = ModuleType("modules")
    modules.script_callbacks = callbacks
    monkeypatch.setitem(sys.modules, "modules", modules)
    monkeypatch.setitem(sys.modules, "modules.paths_internal", SimpleNamespace(script_path=str(program)))
    spec = importlib.util.spec_from_file_location("finetune_script", ROOT / "scripts" / "finetune.py")
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    return registered


def test_the_tab_holds_one_sentence_and_no_fields(script):
    ((blocks, title, element),) = script["tab"]()
    shown = [component["props"].get("value", "") for component in blocks.get_config_file()["components"] if component["type"] != "column"]
    assert (title, element) == ("Finetune", "finetune")
    assert len(shown) == 1 and "quickstart.py ui" in shown[0]


def test_each_route_answers_with_the_sentence(script):
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    app = FastAPI()
    script["routes"](None, app)
    with TestClient(app) as client:
        for answer in (client.get("/finetune/v1/about"), client.post("/finetune/v1/jobs", json={}), client.delete("/finetune/v1/jobs/x")):
            assert answer.status_code == 409 and "quickstart.py ui" in answer.json()["detail"][0]["message"]
