"""What a page is sent when it asks what has changed."""

import json

import pytest

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
