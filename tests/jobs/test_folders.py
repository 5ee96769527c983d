"""Folders of jobs: one for each, damaged ones shown, and one program at a time."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lib_finetune.app.services import services_of
from lib_finetune.errors import HostError, InputError
from lib_finetune.jobs import root_lock
from lib_finetune.jobs.queue import Jobs, make_folder
from lib_finetune.runs.folder import RunFolder
from tests.fakes.runs import Bench, settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_names_that_look_alike_on_disk_get_folders_of_their_own(bench):
    jobs = Jobs(bench.host())
    jobs.hold()
    names = [f"x{sign}y" for sign in "!@#$%&+=~^"]
    start, made = threading.Barrier(len(names)), []

    def submit(name):
        start.wait()
        made.append(jobs.submit(settings(bench.images, {"name": name})))

    threads = [threading.Thread(target=submit, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({job.folder for job in made}) == len(names) == len(jobs.queue())
    assert sorted(RunFolder(job.folder).settings().name for job in jobs.queue()) == sorted(names)
    assert sorted(job.settings.name for job in Jobs(bench.host()).queue()) == sorted(names)


def test_two_programs_cannot_make_the_same_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("time.strftime", lambda *_: "20261125-120000")
    folders = {make_folder(tmp_path, "cat") for _ in range(5)}
    assert len(folders) == 5 and all(folder.is_dir() for folder in folders)


def waiting(bench, *names):
    jobs = Jobs(bench.host())
    jobs.hold()
    return [jobs.submit(settings(bench.images, {"name": name})) for name in names]


DAMAGED_RECORDS = [
    "", "{", "[]", "null", '"text"', "{}", '{"state": 7}', '{"state": "flying"}', '{"state": "done", "files": []}',
    '{"state": "done", "files": {"lora": 3}}', '{"state": "done", "points": {"x": {}}}', '{"state": "done", "place": "first"}',
    '{"state": "done", "place": NaN}', '{"state": "done", "steps": "many"}', '{"state": "done", "message": null}', "\ud800", "[" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("content", DAMAGED_RECORDS)
def test_a_damaged_record_is_shown_with_its_folder_and_the_rest_lives(bench, content):
    a, b = waiting(bench, "a", "b")
    RunFolder(a.folder).record.write_bytes(content.encode("utf-8", "surrogatepass"))
    services = services_of(Jobs(bench.host()))
    overview = services.trainings.overview()
    json.dumps(overview)
    broken = next(job for job in overview["jobs"] if job["id"] == a.folder.name)
    assert broken["state"] == "damaged" and str(a.folder) in broken["message"]
    assert overview["queue"] == [b.folder.name]
    services.jobs.forget(a.folder.name)
    assert not a.folder.exists() and [job.settings.name for job in services.jobs.all()] == ["b"]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"network": {"rank": "many"}}', b"\xff\xfe"])
def test_damaged_settings_are_shown_too(bench, content):
    a, _ = waiting(bench, "a", "b")
    RunFolder(a.folder).settings_file.write_bytes(content)
    jobs = Jobs(bench.host())
    assert {job.folder.name: job.state for job in jobs.all()}[a.folder.name] == "damaged"


def test_a_folder_in_the_place_of_a_record_is_damage(bench):
    a, _ = waiting(bench, "a", "b")
    RunFolder(a.folder).record.unlink()
    RunFolder(a.folder).record.mkdir()
    assert {job.folder.name: job.state for job in Jobs(bench.host()).all()}[a.folder.name] == "damaged"


def test_stray_files_and_runs_of_the_command_line_are_no_jobs(bench):
    waiting(bench, "a")
    runs = bench.host().paths.data / "runs"
    (runs / "stray.txt").write_text("x")
    (runs / "by-hand").mkdir()
    assert [job.settings.name for job in Jobs(bench.host()).all()] == ["a"]


def test_the_api_answers_beside_a_damaged_job(bench):
    pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    from lib_finetune.access import Guard
    from lib_finetune.api.application import application

    a, b = waiting(bench, "a", "b")
    RunFolder(a.folder).record.write_text("{")
    services = services_of(Jobs(bench.host()))
    client = TestClient(application(lambda: services, Guard()))
    assert {job["state"] for job in client.get("/finetune/v1/jobs").json()["jobs"]} == {"damaged", "queued"}
    for name in (a.folder.name, b.folder.name):
        assert client.get(f"/finetune/v1/jobs/{name}").status_code == 200
        assert client.get(f"/finetune/v1/jobs/{name}/events").status_code == 200
    assert client.delete(f"/finetune/v1/jobs/{a.folder.name}").status_code == 200


HOLD = """
import sys, time
from pathlib import Path
from lib_finetune.jobs import root_lock
root_lock.hold(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_program_is_refused_with_the_folder_until_the_first_has_ended(tmp_path):
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "data")], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout.readline().strip() == "held"
        with pytest.raises(HostError, match="Another program") as caught:
            root_lock.hold(tmp_path / "data")
        assert str(tmp_path / "data") in str(caught.value)
    finally:
        first.kill()
        first.wait()
    root_lock.hold(tmp_path / "data")
    root_lock.hold(tmp_path / "data")  # the same program again: Reload UI builds the services anew


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises((HostError, InputError), match="data"):
        root_lock.hold(tmp_path / "data")
