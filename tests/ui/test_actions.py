"""What each of the page's own buttons does."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

import lib_finetune
from lib_finetune.config.settings import Settings
from lib_finetune.errors import InputError
from lib_finetune.ui import actions
from lib_finetune.ui.actions import Press

SCRIPT = Path(lib_finetune.__file__).parents[1] / "javascript" / "finetune.js"


@pytest.fixture
def act(services):
    def do(name, page=None, **arguments):
        return actions.act(name, Press(services, {} if page is None else page, arguments, Settings))

    return do


def test_every_button_of_the_page_has_its_action():
    asked = set(re.findall(r'\bask\("([\w ]+)"', SCRIPT.read_text(encoding="utf-8")))
    ui = Path(lib_finetune.__file__).parent / "ui"
    for file in (*ui.glob("*.py"), *(ui / "templates").glob("*.html")):
        asked |= set(re.findall(r"""\bbutton\(\s*(?:"[^"]*"|'[^']*'|label), ["']([\w ]+)["']""", file.read_text(encoding="utf-8")))
    asked |= {"show"}  # a card as a whole
    assert len(asked) > 15 and asked <= set(actions._ACTIONS)


def test_an_unknown_action_is_refused(act):
    with pytest.raises(InputError, match="does not know"):
        act("fly")


@pytest.mark.parametrize(
    "name", ["pause", "cancel", "forget", "move", "clone", "edit", "again", "go on", "pick", "verdict", "more", "select", "open", "sheet"]
)
@pytest.mark.parametrize("arguments", [{}, {"job": None}, {"job": 5}, {"job": "../other"}])
def test_what_belongs_to_a_job_is_refused_without_one(act, name, arguments):
    with pytest.raises(InputError):
        act(name, **{"steps": "200", **arguments})


def test_jobs_change_places(act, services, waiting):
    first, second = (waiting(name).folder.name for name in ("first", "second"))

    def order():
        return [job.folder.name for job in services.jobs.known.waiting()]

    for name, way in ((first, "up"), (second, "down"), (first, "sideways")):
        act("move", job=name, way=way)
        assert order() == [first, second]
    act("move", job=second, way="up")
    assert order() == [second, first]
    act("move", job=second, way="down")
    assert order() == [first, second]


def test_a_job_is_paused_and_resumed(act, waiting):
    job = waiting("cat")
    act("pause", job=job.folder.name)
    assert job.control.pause_asked()
    act("resume", job=job.folder.name)
    assert not job.control.pause_asked()


def test_the_queue_is_held_and_started(act, services, monkeypatch):
    monkeypatch.setattr(services.jobs._worker, "start", lambda: None)
    act("hold")
    assert services.jobs.held
    act("go")
    assert not services.jobs.held


def test_edit_takes_the_job_and_again_a_copy_of_it(act, waiting):
    job, page = waiting("cat"), {}
    assert act("edit", page, job=job.folder.name).settings == job.settings
    assert page == {"filled": True, "editing": job.folder.name}
    assert act("again", page, job=job.folder.name).settings.name == "cat-2" and page == {"filled": True, "editing": ""}


def test_show_changes_the_result_and_forgets_the_feedback(act):
    page = {"job": "a", "feedback": "Train 200 more steps."}
    act("show", page, job="b")
    assert page == {"job": "b", "feedback": ""}


def test_older_runs_are_listed_step_by_step(act):
    page = {}
    for count in (40, 60):
        act("older runs", page)
        assert page == {"ended": count}


def test_feedback_stands_beneath_the_result(act, waiting):
    job, page = waiting("cat"), {}
    assert act("verdict", page, job=job.folder.name, answer="too weak").message == ""
    assert "weight 1" in page["feedback"]
    with pytest.raises(InputError, match="pretty"):
        act("verdict", page, job=job.folder.name, answer="pretty")


def test_the_checkpoint_of_a_job_is_selected_in_words(act, services, monkeypatch):
    job = SimpleNamespace(folder=SimpleNamespace(name="x"), settings=SimpleNamespace(name="dog"))
    selected = []
    monkeypatch.setattr(services.jobs.known, "find", lambda _: job)
    monkeypatch.setattr(services.results, "select", selected.append)
    assert "dog is loaded before the next training begins" in act("select", job="x").message and selected == ["x"]


@pytest.mark.parametrize(("alone", "end"), [(True, "now, the other files are deleted."), (False, "now.")])
def test_a_step_becomes_the_result(act, services, waiting, monkeypatch, alone, end):
    job, picked = waiting("cat"), []
    monkeypatch.setattr(services.results, "pick", lambda *arguments, **options: picked.append((arguments, options)))
    assert act("pick", job=job.folder.name, step=20, alone=alone).message == f"cat is step 20 {end}"
    assert picked == [((job.folder.name, 20), {"delete_others": alone})]


@pytest.mark.parametrize("steps", ["", "0", "many", "-3", None])
def test_more_steps_are_a_number(act, waiting, steps):
    with pytest.raises(InputError, match="not a number of steps"):
        act("more", job=waiting("cat").folder.name, steps=steps)


def test_a_weight_that_is_no_number_is_said(act, services, waiting, monkeypatch):
    asked = []
    monkeypatch.setattr(services.comparison_grids, "of_job", lambda *arguments: asked.append(arguments))
    name = waiting("cat").folder.name
    act("sheet", job=name, weights="0.5; 1", prompts="a\nb")
    act("sheet", job=name)
    assert asked == [(name, ["a", "b"], [0.5, 1.0]), (name, [], [0.6, 0.8, 1.0])]
    with pytest.raises(InputError, match="'x' is not a number here"):
        act("sheet", job=name, weights="0.5, x")


def test_a_grid_is_asked_for_by_what_is_chosen_and_typed(act, services, monkeypatch):
    asked, page = [], {}
    monkeypatch.setattr(services.comparison_grids, "of_choices", lambda *arguments, **options: asked.append((arguments, options)))
    told = act("grid", page, chosen="base run-1:20 run-1:40", weights="0.5, 1", seeds="3,4", prompts="a\nb")
    assert asked == [((["run-1:20", "run-1:40"], [0.5, 1.0], ["a", "b"], [3, 4]), {"base": True})] and "appears below" in told.message
    assert act("grid", page, chosen="run-1:20", weights="1", seeds="1.5").message == ""
    assert page["tool_problems"] == {"grid": [("seeds", "'1.5' is not a number here. Separate several by commas.")]}


def test_settings_of_a_file_come_with_what_is_missing(act):
    page = {}
    change = act("import", page, settings={"name": "theirs"}, missing=["The folder is gone."], subject=True)
    assert (change.settings.name, change.message) == ("theirs", "The settings are in the form. The folder is gone.")
    assert page == {"filled": True}


def test_one_setting_goes_back_to_its_default_without_a_word(services):
    from lib_finetune.config import codec

    now = codec.with_values(Settings(), [("network.rank", "9"), ("name", "cat")])
    page = {}
    change = actions.act("default", Press(services, page, {"path": "network.rank"}, lambda: now))
    assert (change.settings.network.rank, change.settings.name, change.message) == (Settings().network.rank, "cat", "")
    assert page == {}


def test_a_part_of_the_storage_is_emptied(act, services):
    with pytest.raises(InputError):
        act("empty", part="everything")
    assert act("empty", part="cache").message == "0.0 MB are free again."
