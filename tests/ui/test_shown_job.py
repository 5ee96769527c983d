"""Which job a page shows, and its buttons."""

import pytest

from lib_finetune.ui.shown_job import CONTROLS, follow, visible_controls


def job(name="a", state="running", stopping=False):
    return {"id": name, "state": state, "stopping": stopping}


def test_a_fresh_page_shows_the_job_that_runs():
    page = {}
    follow(page, job(), active=True)
    assert page == {"job": "a", "feedback": "", "running": "a", "shown": "a"}


def test_a_page_without_jobs_shows_none():
    page = {}
    follow(page, None, active=False)
    assert page == {"running": "", "shown": ""}


def test_the_result_that_was_chosen_stays_until_a_job_ends():
    page = {"job": "earlier", "feedback": "Train 200 more steps."}
    follow(page, job(), active=True)
    assert (page["job"], page["feedback"], page["shown"]) == ("earlier", "Train 200 more steps.", "a")
    follow(page, job(state="done"), active=False)
    assert (page["job"], page["feedback"], page["running"]) == ("a", "", "")
    page["job"] = "earlier"
    follow(page, job(state="done"), active=False)  # it has been shown already
    assert page["job"] == "earlier"


@pytest.mark.parametrize(
    ("shown", "active", "visible"),
    [
        (job(), True, {"pause", "preview", "save", "keep", "discard"}),
        (job(state="paused"), True, {"resume", "preview", "save", "keep", "discard"}),
        (job(state="waiting"), True, {"preview", "save", "keep", "discard", "load"}),
        (job(stopping=True), True, set()),
        (job(state="done"), False, set()),
        (None, False, set()),
    ],
)
def test_only_the_buttons_that_can_do_something_are_there(shown, active, visible):
    buttons = visible_controls(shown, active=active)
    assert set(buttons) == {*CONTROLS, "load"} and {name for name, there in buttons.items() if there} == visible
