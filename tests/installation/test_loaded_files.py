"""An update while the program runs: it is noticed, said in the tab after Reload UI, and no training begins on a mixture."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lib_finetune.access import Guard
from lib_finetune.errors import OutdatedError
from lib_finetune.installation.loaded_files import OUTDATED, LoadedFiles
from lib_finetune.jobs.queue import Jobs
from tests.fakes.runs import Bench, settings

ROOT = Path(__file__).resolve().parents[2]
needs_gradio = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="gradio belongs to the WebUI's library set")


@pytest.fixture
def package(tmp_path):
    (tmp_path / "package" / "jobs").mkdir(parents=True)
    for name in ("one.py", "jobs/two.py"):
        (tmp_path / "package" / name).write_text("x = 1\n")
    return tmp_path / "package"


def test_files_that_stay_as_they_were_are_no_update(package):
    loaded = LoadedFiles(package)
    os.utime(package / "one.py", (1, 1))  # as a checkout of another branch and back
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "one.pyc").write_bytes(b"x")
    (package / "notes.txt").write_text("x")
    assert not loaded.changed()


@pytest.mark.parametrize(
    "update",
    [
        lambda package: (package / "one.py").write_text("x = 2\n"),
        lambda package: (package / "jobs" / "two.py").write_text("x = 1\n\n"),
        lambda package: (package / "three.py").write_text(""),
        lambda package: (package / "one.py").unlink(),
        lambda package: (package / "one.py").rename(package / "other.py"),
        lambda package: shutil.rmtree(package),
    ],
    ids=["changed", "longer", "added", "removed", "renamed", "gone"],
)
def test_an_update_is_noticed(package, update):
    loaded = LoadedFiles(package)
    update(package)
    assert loaded.changed() and loaded.changed()


def test_an_update_that_is_taken_back_is_none(package):
    loaded = LoadedFiles(package)
    (package / "one.py").write_text("x = 22\n")
    assert loaded.changed()
    (package / "one.py").write_text("x = 1\n")
    assert not loaded.changed()


def test_after_an_update_no_training_begins_and_one_that_runs_goes_on(tmp_path):
    bench, said = Bench(tmp_path), [""]
    jobs = Jobs(bench.host(), lambda: said[0])
    jobs.hold()
    jobs.submit(settings(bench.images, {"name": "cat"}))
    said[0] = OUTDATED
    for start in (lambda: jobs.submit(settings(bench.images, {"name": "dog"})), jobs.go):
        with pytest.raises(OutdatedError, match="start it again"):
            start()
    assert jobs.held and [job.settings.name for job in jobs.known.waiting()] == ["cat"]
    jobs.cancel(jobs.known.waiting()[0].folder.name)


@needs_gradio
def test_the_api_answers_409_after_an_update(tmp_path):
    from fastapi.testclient import TestClient

    from lib_finetune.api.application import PREFIX, application
    from lib_finetune.app.services import services_of
    from lib_finetune.config import codec

    bench = Bench(tmp_path)
    services = services_of(Jobs(bench.host(), lambda: OUTDATED))
    client = TestClient(application(lambda: services, Guard()))
    answer = client.post(f"{PREFIX}/jobs", json=codec.to_dict(settings(bench.images)))
    assert answer.status_code == 409 and answer.json()["detail"][0]["message"] == OUTDATED
    assert client.get(f"{PREFIX}/jobs").status_code == 200 and not services.jobs.known.all()


RELOADED = """
import json, pathlib, runpy, sys, types
callbacks, modules, tabs = types.ModuleType("modules.script_callbacks"), types.ModuleType("modules"), []
callbacks.on_ui_tabs, callbacks.on_app_started, modules.script_callbacks = tabs.append, lambda mounts: None, callbacks
sys.modules.update({"modules": modules, "modules.script_callbacks": callbacks})
sys.path.insert(0, ".")

def notice():
    runpy.run_path("scripts/finetune.py")
    blocks = tabs[-1]()[0][0]
    return next(block.value for block in blocks.blocks.values() if block.elem_id == "finetune_missing")

found = [notice(), notice()]
file = pathlib.Path("lib_finetune/runs/pace.py")
file.write_text(file.read_text(encoding="utf-8") + "# an update\\n", encoding="utf-8")
print(json.dumps([*found, notice()]))
"""


@needs_gradio
def test_reload_ui_after_an_update_asks_for_a_restart_in_the_tab(tmp_path):
    for name in ("lib_finetune", "scripts", "javascript", "localizations"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", RELOADED], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    first, again, updated = json.loads(done.stdout.splitlines()[-1])
    assert OUTDATED not in first and again == first and OUTDATED in updated
