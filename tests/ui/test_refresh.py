"""What a page is sent when it asks what has changed."""


def test_a_page_shows_only_what_has_changed(tab):
    page = {}
    first, second = tab.refresh.poll(page), tab.refresh.poll(page)
    assert "press Train" in first[0] and all(not isinstance(part, str) for part in second)


def test_the_queues_title_counts_the_jobs_that_wait(tab, services, waiting):
    page = {}
    assert "label" not in tab.refresh.poll(page)[-1]
    job = waiting("cat")
    assert tab.refresh.poll(page)[-1]["label"] == "Queue (1)" and "label" not in tab.refresh.poll(page)[-1]
    services.jobs.cancel(job.folder.name)
    assert tab.refresh.poll(page)[-1]["label"] == "Queue"


def test_a_status_that_cannot_be_shown_is_said_and_hides_the_buttons(tab, services, monkeypatch):
    def broken():
        raise ValueError("the folder is gone")

    monkeypatch.setattr(type(services.trainings), "overview", lambda _: broken())
    panel, outcome, *_, pause, resume, preview, save, keep, discard, load, _ = tab.refresh.poll({})
    assert "the folder is gone" in panel and not isinstance(outcome, str)
    assert [button["visible"] for button in (pause, resume, preview, save, keep, discard, load)] == [False] * 7
