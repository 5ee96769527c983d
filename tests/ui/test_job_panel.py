"""The buttons above a job's status, and unfinished runs."""

import pytest

from tests.fakes.runs import settings


@pytest.fixture
def two_jobs(services, images, monkeypatch):
    """One that the page shows, and one that runs by now."""
    monkeypatch.setattr(services.jobs._worker, "start", lambda: None)
    return [services.jobs.submit(settings(images, {"name": name})) for name in ("shown", "running")]


@pytest.mark.parametrize("button", ["keep", "discard", "load"])
def test_a_button_means_the_job_that_the_page_shows(tab, two_jobs, button):
    shown, running = two_jobs
    shown.state = "running"
    page = {}
    tab.refresh.poll(page)
    assert page["shown"] == shown.folder.name
    shown.state, running.state = "done", "running"  # between two looks of the page
    assert "shown has ended already" in tab.job.press(button)(page)
    assert not running.control.stop_asked() and not running.control.load_asked() and not shown.control.stop_asked()
    tab.refresh.poll(page)
    assert tab.job.press(button)(page) == ""
    stops = button != "load"
    assert running.control.stop_asked() is stops and running.control.discard_asked() is (button == "discard")
    assert running.control.load_asked() is not stops


@pytest.mark.parametrize("name", ["pause", "preview", "save"])
def test_the_other_buttons_too(tab, two_jobs, name):
    shown, running = two_jobs
    page = {"shown": shown.folder.name}
    shown.state = running.state = "running"
    tab.job.press(name)(page)
    assert getattr(shown.control, f"{name}_asked")() and not getattr(running.control, f"{name}_asked")()


def test_resume_ends_the_pause(tab, two_jobs):
    page = {"shown": two_jobs[0].folder.name}
    tab.job.press("pause")(page)
    tab.job.press("resume")(page)
    assert not two_jobs[0].control.pause_asked()


@pytest.mark.parametrize("page", [{}, {"shown": ""}])
def test_a_page_that_shows_no_job_steers_none(tab, two_jobs, page):
    assert tab.job.press("keep")(page) == "" and not any(job.control.stop_asked() for job in two_jobs)


def test_an_unknown_run_to_continue_is_refused(tab):
    assert "Choose an unfinished run" in tab.job.resume("")


def test_without_unfinished_runs_nothing_is_offered(tab):
    choices, button = tab.job.unfinished()
    assert (choices["choices"], choices["visible"], button["visible"]) == ([], False, False)


def test_while_a_training_runs_the_webuis_tab_says_what_ends_it(services, two_jobs):
    pytest.importorskip("gradio", reason="gradio belongs to the WebUI's library set")
    from lib_finetune.ui.refresh import PANELS
    from lib_finetune.ui.tab import Tab

    two_jobs[0].state = "running"
    panels = {}
    for in_webui in (True, False):
        tab = Tab(lambda: services, list, in_webui=in_webui)
        tab.build()
        panels[in_webui] = tab.refresh.poll({})[PANELS.index("panel")]
    assert "Apply and restart UI" in panels[True] and "Apply and restart" not in panels[False]
    for job in two_jobs:
        job.state = "done"
    assert "Apply and restart" not in tab.refresh.poll({})[PANELS.index("panel")]
