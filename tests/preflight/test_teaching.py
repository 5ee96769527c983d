"""A training says what it teaches, or it is refused; and its steps see the images."""

import pytest

from lib_finetune.app.method_advisor import _lines
from lib_finetune.assembly import dataset
from lib_finetune.estimates import trial
from lib_finetune.jobs.queue import Jobs
from lib_finetune.preflight import teaching
from lib_finetune.preflight.problems import problems
from tests.fakes.runs import Bench, settings

SILENT = {"data.trigger": "", "data.class_word": ""}


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def fields(bench, changes):
    return [problem.field for problem in problems(settings(bench.images, changes), bench.host())]


def warnings(bench, changes):
    chosen = settings(bench.images, changes)
    return teaching.warnings(chosen, dataset.find(chosen))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"data.trigger": "  "},
        {"data.kind": "person"},
        {"data.template": "a photo of [name], [filewords]"},
        {"data.template": "{trigger}"},
    ],
)
def test_a_training_of_nothing_is_refused(bench, changes):
    assert fields(bench, {**SILENT, **changes}) == ["data.trigger"]


def test_empty_captions_say_nothing(bench):
    for number, text in enumerate(["", "<lora:x:1>", "# later"]):
        (bench.images / f"{number}.txt").write_text(text, encoding="utf-8")
    assert fields(bench, SILENT) == ["data.trigger"]


@pytest.mark.parametrize(
    "changes",
    [
        {"data.trigger": "zxq"},
        {"data.class_word": "cat"},
        {"data.template": "my old house"},
        {"method": "textual_inversion", "name": "zxqcat"},
    ],
)
def test_any_word_is_enough(bench, changes):
    assert fields(bench, {**SILENT, **changes}) == []


def test_a_class_word_that_no_template_takes_is_none(bench):
    assert fields(bench, {"data.trigger": "", "data.class_word": "cat", "data.template": "a photo of {trigger}"}) == ["data.trigger"]


def test_the_name_of_a_kohya_folder_is_enough(bench):
    bench.images.rename(bench.root / "3_zxq cat")
    bench.images = bench.root / "3_zxq cat"
    assert fields(bench, SILENT) == []


def test_some_captions_are_enough_and_the_rest_is_said(bench):
    (bench.images / "0.txt").write_text("a red thing", encoding="utf-8")
    assert fields(bench, SILENT) == []
    assert [line[:20] for line in warnings(bench, SILENT)] == ["2 of 3 images have n"]
    assert warnings(bench, {}) == []


def test_a_style_without_words_trains_and_is_warned_of_in_check_forecast_and_log(bench):
    changes = {**SILENT, "data.kind": "style"}
    host = bench.host()
    (checked,) = Jobs(host).check(settings(bench.images, changes))
    found = trial.probe(settings(bench.images, changes), host, lambda: None)
    result, recorder, _ = bench.run(changes)
    assert "no word that calls it" in checked and found.warnings == (checked,)
    assert f"Warning: {checked}" in _lines(found) and f"Warning: {checked}" in recorder.lines
    assert result.outcome == "done"


@pytest.mark.parametrize(
    ("changes", "seen"),
    [({"training.steps": "2"}, "2 of 3"), ({"training.steps": "3"}, None), ({"training.steps": "2", "training.batch": "2"}, None)],
)
def test_too_few_steps_to_see_every_picture_are_warned_of(bench, changes, seen):
    found = warnings(bench, changes)
    assert (seen is None and found == []) or (f"{seen} are seen" in found[0] and "training.steps to 3" in found[0])


def test_a_part_of_once_is_not_called_nothing(bench):
    bench.images.rename(bench.root / "100_zxq cat")
    bench.images = bench.root / "100_zxq cat"
    _, recorder, _ = bench.run({"training.steps": "2"})
    assert any("seen 0 to 2 times" in line for line in recorder.lines)
    assert any(line.startswith("Warning: The steps are too few") and "1 of 3 are seen" in line for line in recorder.lines)
