"""Which job a page shows, and its buttons."""

import pytest

from lib_finetune.ui.shown_job import CONTROLS, follow, visible_controls


def job(name="a", state="running", stopping=False):
    return {"id": name, "state": state, "stopping": stopping}


def test_a_fresh_page_shows_the_job_that_runs():
    page = {}
    follow(page, job(), ["a"])
    assert page == {"job": "a", "feedback": "", "followed": "a", "shown": "a"}


def test_a_page_without_jobs_shows_none():
    page = {}
    follow(page, None, [])
    assert page == {"job": "", "followed": "", "shown": ""}


def test_the_run_that_was_chosen_stays_and_its_buttons_are_its_own():
    page = {"job": "earlier", "feedback": "Train 200 more steps."}
    follow(page, job(), ["earlier", "a"])
    assert (page["job"], page["feedback"], page["shown"]) == ("earlier", "Train 200 more steps.", "earlier")
    follow(page, job(state="done"), ["earlier", "a"])
    assert (page["shown"], page["feedback"], page["followed"]) == ("earlier", "Train 200 more steps.", "a")


def test_who_watches_a_run_sees_its_end_and_then_the_next():
    page = {}
    follow(page, job(), ["a"])
    follow(page, job(state="done"), ["a"])
    assert page["shown"] == "a"
    page = {}
    follow(page, job(), ["a", "b"])
    follow(page, job("b"), ["a", "b"])
    assert page["shown"] == "b"


def test_a_run_that_starts_is_shown_on_a_page_that_was_opened_after_the_last_one_ended():
    page = {}
    follow(page, job("ended", state="cancelled"), ["ended"])
    assert page["shown"] == "ended"
    follow(page, job("started"), ["ended", "started"])
    assert page["shown"] == "started"


def test_a_run_that_was_removed_is_shown_no_longer():
    page = {"job": "gone"}
    follow(page, job(state="done"), ["a"])
    assert page["shown"] == "a"


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
