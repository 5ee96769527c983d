"""What a page is sent when it asks what has changed."""

import json
import time

import pytest

from tests.fakes.runs import settings

pytest.importorskip("gradio", reason="gradio belongs to the WebUI's library set")


def by_name(answer):
    from lib_finetune.ui.refresh import PANELS

    return dict(zip(PANELS, answer, strict=False))


def test_a_page_shows_only_what_has_changed(tab):
    page = {}
    first, second = tab.refresh.poll(page), tab.refresh.poll(page)
    assert "press Train" in by_name(first)["panel"] and all(not isinstance(part, str) for part in second)
    assert all("visible" not in part for part in second)


def test_a_place_is_made_when_it_is_looked_at(tab):
    page, places = (
        {},
        {"train": set(), "runs": {"queue", "history"}, "compare": {"sheets"}, "library": {"library", "class_images"}, "tools": {"about"}},
    )
    tab.refresh.poll(page, "train")
    for place, panels in places.items():
        shown = {name for name, html in by_name(tab.refresh.poll(page, place)).items() if isinstance(html, str) and html}
        assert panels <= shown and not (shown & set().union(*(others for other, others in places.items() if other != place)))


def test_an_answer_without_news_is_small(tab):
    page = {}
    for place in ("train", "runs", "compare", "library", "tools"):
        tab.refresh.poll(page, place)
        assert len(json.dumps(tab.refresh.poll(page, place))) < 1000


def test_the_bar_counts_the_jobs_that_wait(tab, services, waiting):
    page = {}
    assert 'data-waiting="0"' in by_name(tab.refresh.poll(page))["bar"]
    job = waiting("cat")
    assert 'data-waiting="1"' in by_name(tab.refresh.poll(page))["bar"] and not isinstance(by_name(tab.refresh.poll(page))["bar"], str)
    services.jobs.cancel(job.folder.name)
    assert 'data-waiting="0"' in by_name(tab.refresh.poll(page))["bar"]


def test_a_status_that_cannot_be_shown_is_said_and_hides_the_buttons(tab, services, monkeypatch):
    def broken():
        raise ValueError("the folder is gone")

    monkeypatch.setattr(type(services.trainings), "overview", lambda *_, **__: broken())
    answer = tab.refresh.poll({})
    pause, resume, preview, save, keep, discard, load = answer[-7:]
    assert "the folder is gone" in by_name(answer)["bar"] and not isinstance(by_name(answer)["outcome"], str)
    assert [button["visible"] for button in (pause, resume, preview, save, keep, discard, load)] == [False] * 7


def test_the_curves_of_jobs_are_not_read(tab, services, waiting, monkeypatch):
    for name in ("cat", "dog"):
        waiting(name)
    read = []
    monkeypatch.setattr("lib_finetune.app.job_view.series_of", lambda job: read.append(job) or {"losses": [], "smooth": [], "log": []})
    tab.refresh.poll({})
    assert read == []


@pytest.fixture
def hundred(services, images, monkeypatch):
    """A hundred runs that have ended, with a result and four snapshots each."""
    monkeypatch.setattr(services.jobs._worker, "start", lambda: None)
    folder = services.host.paths.lora
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(100):
        job = services.jobs.submit(settings(images, {"name": f"cat-{number}"}))
        files = {step: {"lora": folder / f"cat-{number}-{step}.safetensors"} for step in (100, 200, 300, 400, 500)}
        for file in files.values():
            file["lora"].write_bytes(b"x")
        job.state = job.record.state = "done"
        job.record.steps, job.record.ended, job.record.started = 500, 1000.0 + number, 900.0
        job.record.files = {"lora": str(files[500]["lora"])}
        job.keep_snapshots({step: file for step, file in files.items() if step < 500})
    return services


def test_a_hundred_ended_runs_are_listed_fast_and_in_steps(tab, hundred):
    from lib_finetune.ui import queue

    overview = hundred.trainings.overview(series=False)
    queue.history(overview, "key")  # the template is read once
    begin = time.perf_counter()
    shown, all_of_them = queue.history(overview, "key"), queue.history(overview, "key", count=100)
    seconds = time.perf_counter() - begin
    print(f"20 and 100 runs in {seconds * 1000:.0f} ms: {len(shown)} and {len(all_of_them)} characters")
    assert seconds < 0.2
    assert len(shown) < 60_000 and shown.count("<article") == 20 and "<span>80 more</span>" in shown
    assert all_of_them.count("<article") == 100 and "Show older runs" not in all_of_them
    oldest = min(overview["jobs"], key=lambda job: job["ended"])["id"]
    assert queue.history(overview, "key", oldest).count("<article") == 21


def test_a_page_lists_as_many_runs_as_it_asked_for(tab, hundred):
    page = {}
    assert by_name(tab.refresh.poll(page, "runs"))["history"].count("<article") == 20
    page["ended"] = 40
    assert by_name(tab.refresh.poll(page, "runs"))["history"].count("<article") == 40


def test_an_idle_poll_is_small_on_the_wire(hundred):
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    from lib_finetune.ui import page

    client = TestClient(page.mounted(FastAPI(), lambda: hundred, list))
    config = client.get("/config").json()
    button = next(part["id"] for part in config["components"] if part["props"].get("elem_id") == "finetune_refresh")
    asked = next(
        number for number, event in enumerate(config["dependencies"]) if button in event["targets"] or [button, "click"] in event["targets"]
    )

    def poll(place):
        body = {"data": [None, place], "fn_index": asked, "event_data": None, "session_hash": "page"}
        answer = client.post("/run/predict", json=body)
        assert answer.status_code == 200
        heads = [*answer.request.headers.raw, *answer.headers.raw]
        return len(answer.request.content) + len(answer.content) + sum(len(name) + len(value) + 4 for name, value in heads)

    sizes = {place: (poll(place), poll(place)) for place in ("train", "runs", "compare", "library", "tools")}
    print(f"bytes of a first and of an idle poll: {sizes}")
    assert all(second < 3000 and second < first for first, second in sizes.values()), sizes
    assert sizes["runs"][0] < 100_000


def test_a_poll_with_a_hundred_ended_runs_is_answered_at_once(tab, hundred):
    def idle(place):
        begin = time.perf_counter()
        tab.refresh.poll(page, place)
        return time.perf_counter() - begin

    page = {}
    tab.refresh.poll(page)
    seconds = {place: min(idle(place) for _ in range(3)) for place in ("train", "runs", "compare", "library", "tools")}
    print("an idle poll: " + ", ".join(f"{place} {value * 1000:.0f} ms" for place, value in seconds.items()))
    assert max(seconds.values()) < 0.2
