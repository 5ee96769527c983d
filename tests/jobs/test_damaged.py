"""A job whose files are damaged: it is shown with its folder, can be forgotten, and the rest lives."""

import importlib.util
import json
import time

import pytest

from lib_finetune.access import Guard
from lib_finetune.app.services import services_of
from lib_finetune.errors import FinetuneError, InputError
from lib_finetune.jobs import record
from lib_finetune.jobs.queue import Jobs
from lib_finetune.runs.folder import SETTINGS, STATE
from tests.fakes.runs import Bench, settings

GOOD = {"state": "done"}
DAMAGE = {
    "not JSON": "{",
    "empty": "",
    "zeros": b"\0" * 200,
    "no UTF-8": b"\xff\xfe\xff",
    "a list": "[]",
    "a number": "5",
    "nothing": "null",
    "nested without end": "[" * 100_000,
    "no fields": "{}",
    "state is a number": {"state": 5},
    "state is a list": {"state": ["done"]},
    "place is a text": {**GOOD, "place": "first"},
    "ended is a text": {**GOOD, "ended": "yesterday"},
    "created is nothing": {**GOOD, "created": None},
    "started is no number": '{"state": "done", "started": NaN}',
    "ended is endless": '{"state": "done", "ended": 1e999}',
    "created is too large": '{"state": "done", "created": 1' + "0" * 400 + "}",
    "steps is a text": {**GOOD, "steps": "4"},
    "steps is true": {**GOOD, "steps": True},
    "picked is a text": {**GOOD, "picked": "4"},
    "message is a number": {**GOOD, "message": 4},
    "group is a list": {**GOOD, "group": []},
    "files is a list": {**GOOD, "files": ["a.safetensors"]},
    "files holds numbers": {**GOOD, "files": {"lora": 4}},
    "points is a text": {**GOOD, "points": "none"},
    "points are of no step": {**GOOD, "points": {"last": {"lora": "a.safetensors"}}},
    "points hold lists": {**GOOD, "points": {"4": ["a.safetensors"]}},
    "points hold numbers": {**GOOD, "points": {"4": {"lora": 1}}},
    "a point has no file": {**GOOD, "points": {"4": {}}},
    "a point has a file too many": {**GOOD, "points": {"4": {"lora": "a.safetensors", "embedding": "b.safetensors"}}},
    "the result is of another kind": {**GOOD, "files": {"checkpoint": "a.safetensors"}},
}
SETTINGS_DAMAGE = {
    "not JSON": "{",
    "empty": "",
    "a list": "[]",
    "a wrong type": '{"version": 1, "training": {"steps": "many"}}',
    "an unknown method": '{"version": 1, "method": "magic"}',
    "no number": '{"version": 1, "name": "cat", "network": {"alpha": NaN}}',
    "of a newer version": '{"version": 99}',
    "nested without end": "[" * 100_000,
    "missing": None,
}


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def put(path, content):
    if content is None:
        path.unlink()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))


def two(bench):
    """Folders of two jobs that wait, as the program left them."""
    jobs = Jobs(bench.host())
    jobs.hold()
    return [jobs.submit(settings(bench.images, {"name": name})).folder for name in ("bad", "good")]


def found(bench):
    """(the services of a new start, its damaged job)."""
    services = services_of(Jobs(bench.host()))
    (damaged,) = [job for job in services.jobs.known.all() if job.state == "damaged"]
    assert [job.settings.name for job in services.jobs.known.waiting()] == ["good"]
    return services, damaged


def check(bench, folder):
    """It is shown with its folder, everything else works, it can be forgotten and does not come back."""
    services, damaged = found(bench)
    assert damaged.folder == folder and str(folder) in damaged.message and damaged.ended
    overview = services.trainings.overview()
    json.dumps(overview, allow_nan=False)
    shown = next(job for job in overview["jobs"] if job["state"] == "damaged")
    assert shown["id"] == folder.name and not shown["can_go_on"] and not shown["choices"]
    services.jobs.forget(folder.name)
    assert not folder.exists() and [job.settings.name for job in Jobs(bench.host()).known.all()] == ["good"]
    return services


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_record_is_shown_and_forgotten(bench, damage):
    bad, _ = two(bench)
    put(bad / "job.json", DAMAGE[damage])
    check(bench, bad)


@pytest.mark.parametrize("damage", SETTINGS_DAMAGE)
def test_damaged_settings_are_shown_and_forgotten(bench, damage):
    bad, _ = two(bench)
    put(bad / SETTINGS, SETTINGS_DAMAGE[damage])
    check(bench, bad)


ROW = {"step": 1, "kinds": ["subject"], "prompts": ["a"], "seeds": [1], "files": ["a.png"]}


@pytest.mark.parametrize(
    "damage",
    [
        {"rows": [ROW, {**ROW, "step": "a"}], "figures": {}}, {"rows": [{**ROW, "files": [[1]]}], "figures": {}},
        {"rows": [], "figures": {"validation": [[[1], 0.5]]}}, {"rows": [], "figures": {"validation": [[1, 0.5], ["a", 0.5]]}},
        {"rows": [], "figures": {"validation": [[1, "a"]]}}, {"rows": [], "figures": []},
    ],
)  # fmt: skip
def test_damaged_previews_are_left_out_and_everything_else_is_shown(bench, damage):
    bad, _ = two(bench)
    put(bad / "previews.json", damage)
    overview = services_of(Jobs(bench.host())).trainings.overview()
    json.dumps(overview, allow_nan=False)
    assert [(job["name"], job["state"], job["previews"], job["validation"]) for job in overview["jobs"]] == [
        (name, "queued", [], []) for name in ("bad", "good")
    ]


@pytest.mark.parametrize("name", ["job.json", SETTINGS])
def test_a_folder_in_place_of_a_file_is_shown_and_forgotten(bench, name):
    bad, _ = two(bench)
    (bad / name).unlink()
    (bad / name).mkdir()
    (bad / name / "more").write_text("x")
    check(bench, bad)


@pytest.mark.parametrize("name", ["job.json", SETTINGS])
def test_a_file_that_may_not_be_read_is_shown_and_forgotten(bench, monkeypatch, name):
    from pathlib import Path

    bad, _ = two(bench)

    def refusing(real):
        def read(self, *args, **kwargs):
            if self == bad / name:
                raise PermissionError(13, "Permission denied", str(self))
            return real(self, *args, **kwargs)

        return read

    for reader in ("read_text", "read_bytes", "open"):
        monkeypatch.setattr(Path, reader, refusing(getattr(Path, reader)))
    check(bench, bad)


@pytest.mark.parametrize("name", ["losses.csv", "validation.csv", "log.csv", "previews.json"])
@pytest.mark.parametrize(
    "content", [b"\0\0\0,1\n", b"\xff" * 10, b"x" * 300_000 + b",1\n", "²,0.5\n4,0.5\n".encode(), b"[1]", b"[" * 100_000]
)
def test_what_is_only_shown_may_be_damaged(bench, name, content):
    bad, _ = two(bench)
    (bad / name).write_bytes(content)
    services = services_of(Jobs(bench.host()))
    assert [job.settings.name for job in services.jobs.known.waiting()] == ["bad", "good"]
    json.dumps(services.trainings.overview(), allow_nan=False)


def test_other_things_beside_the_runs_are_no_jobs(bench):
    bad, _ = two(bench)
    (bad.parent / ".DS_Store").write_text("x")
    (bad.parent / "empty").mkdir()
    (bad.parent / "of the command line").mkdir()
    (bad.parent / "of the command line" / SETTINGS).write_text("{}")
    assert [job.settings.name for job in Jobs(bench.host()).known.all()] == ["bad", "good"]


def test_a_damaged_job_is_not_trained_from(bench):
    bad, _ = two(bench)
    put(bad / SETTINGS, "{")
    services, damaged = found(bench)
    name = damaged.folder.name
    trainings, results = services.trainings, services.results
    asked = [
        lambda: trainings.clone(name, {}), lambda: trainings.more(name, 4), lambda: results.feedback(name, "too weak"),
        lambda: trainings.settings_for_form(damaged, edit=False), lambda: services.comparison_grids.of_job(name, [], [1.0]),
        lambda: results.pick(name, 4, delete_others=False), lambda: results.select(name), lambda: results.open_folder(name),
        lambda: services.jobs.edit(name, settings(bench.images)), lambda: services.jobs.cancel(name), lambda: trainings.resume(name),
    ]  # fmt: skip
    for ask in asked:
        with pytest.raises(InputError):
            ask()
    assert [job.state for job in services.jobs.known.all()] == ["damaged", "queued"]


def test_a_run_whose_record_alone_is_damaged_can_go_on(bench):
    host = bench.host()
    jobs = Jobs(host)
    job = jobs.submit(settings(bench.images, {"training.steps": "200"}))
    while not job.progress.losses:
        time.sleep(0.02)
    job.control.stop(keep=True)
    while not job.ended:
        time.sleep(0.02)
    assert (job.folder / STATE).is_file()
    (job.folder / "job.json").write_text("{")
    services = services_of(Jobs(bench.host()))
    assert [one.state for one in services.jobs.known.all()] == ["damaged"] and services.trainings.unfinished() == [job.folder.name]
    again = services.trainings.resume(job.folder.name)
    assert services.jobs.known.all() == [again]
    again.control.stop(keep=False)
    while not again.ended:
        time.sleep(0.02)
    assert record.read(job.folder).state == "discarded"


def test_results_in_a_folder_that_may_not_be_looked_at_are_not_there(bench, monkeypatch):
    from pathlib import Path

    bad, _ = two(bench)
    secret = "/secret/a.safetensors"
    put(bad / "job.json", {"state": "done", "files": {"lora": secret}, "points": {"2": {"lora": secret}}, "steps": 4})
    real = Path.is_file

    def is_file(self):
        if str(self) == secret:
            raise PermissionError(13, "Permission denied", str(self))
        return real(self)

    monkeypatch.setattr(Path, "is_file", is_file)
    shown = services_of(Jobs(bench.host())).trainings.overview()["jobs"][0]
    assert shown["state"] == "done" and shown["choices"] == {}


def test_a_record_that_is_damaged_is_an_error_that_names_it(tmp_path):
    (tmp_path / "job.json").write_text("{")
    with pytest.raises(FinetuneError, match=r"job\.json"):
        record.read(tmp_path)
    assert record.read(tmp_path / "elsewhere") is None


@pytest.mark.skipif(importlib.util.find_spec("fastapi") is None, reason="fastapi belongs to the WebUI's library set")
def test_the_api_answers_beside_a_damaged_job(bench):
    from fastapi.testclient import TestClient

    from lib_finetune.api.application import PREFIX, application

    bad, good = two(bench)
    put(bad / "job.json", {**GOOD, "ended": "yesterday", "files": []})
    put(bad / SETTINGS, "{")
    services = services_of(Jobs(bench.host()))
    client = TestClient(application(lambda: services, Guard()))

    def ask(method, path, **more):
        return client.request(method, PREFIX + path, **more)

    shown = {job["id"]: job for job in ask("GET", "/jobs").json()["jobs"]}
    assert shown[bad.name]["state"] == "damaged" and str(bad) in shown[bad.name]["message"] and shown[good.name]["state"] == "queued"
    assert ask("GET", f"/jobs/{bad.name}").json()["state"] == "damaged" and ask("GET", f"/jobs/{bad.name}/events").status_code == 200
    for method, path, more in [
        ("GET", "/settings", {}), ("POST", "/clone", {"json": {"changes": {}}}), ("POST", "/more", {"json": {"steps": 4}}),
        ("GET", "/verdict?said=too weak", {}), ("POST", "/sheet", {"json": {}}), ("POST", "/pick", {"json": {"step": 4}}), ("POST", "/select", {}),
    ]:  # fmt: skip
        answer = ask(method, f"/jobs/{bad.name}{path}", **more)
        assert answer.status_code == 422, (path, answer.text)
    assert ask("GET", "/unfinished").json() == [] and ask("GET", "/storage").status_code == 200
    assert ask("DELETE", f"/jobs/{bad.name}").json() == {"ok": True}
    assert [job["id"] for job in ask("GET", "/jobs").json()["jobs"]] == [good.name] and not bad.exists()


def test_the_page_shows_it_with_its_folder_and_a_way_to_forget_it(bench):
    from lib_finetune.ui import outcome, queue

    bad, _ = two(bench)
    put(bad / "job.json", "{")
    overview = services_of(Jobs(bench.host())).trainings.overview()
    shown = queue.history(overview, "key")
    assert str(bad) in shown and "damaged" in shown and "Remove" in shown and "Train again" not in shown and "Resume" not in shown
    assert outcome.render(overview["jobs"][0]) == "" and queue.queue(overview, "key")
