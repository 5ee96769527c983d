import dataclasses

import pytest

from lib_finetune.config import codec
from lib_finetune.config.settings import Settings
from lib_finetune.estimates import speed_history
from lib_finetune.estimates.speed_history import Clock, SpeedConditions, estimate, remember, work_of
from lib_finetune.ports.events import StepReport
from tests.fakes.runs import Bench

WORK = SpeedConditions("Card", 860_000_000, "lora", 512, 1, False, False)


def but(**changes):
    return dataclasses.replace(WORK, **changes)


def test_what_was_measured_comes_back_as_the_median_of_the_last_five(tmp_path):
    for seconds in (90.0, 1.0, 2.0, 3.0, 4.0, 50.0):
        remember(tmp_path, WORK, seconds)
    assert estimate(tmp_path, WORK) == speed_history.Speed(3.0, "measured")


@pytest.mark.parametrize(
    ("other", "factor"),
    [
        (but(resolution=1024), 4.0),
        (but(pictures=2), 2.0),
        (but(checkpointing=True), 1.25),
        (but(predicts=True), 5 / 3),
        (but(method="dreambooth"), 1.2),
    ],
)
def test_other_work_of_the_same_machine_is_scaled(tmp_path, other, factor):
    remember(tmp_path, WORK, 2.0)
    found = estimate(tmp_path, other)
    assert found.origin == "scaled" and found.seconds == pytest.approx(2.0 * factor)


def test_the_nearest_work_is_scaled(tmp_path):
    remember(tmp_path, WORK, 2.0)
    remember(tmp_path, but(resolution=960), 9.0)
    assert estimate(tmp_path, but(resolution=1024)).seconds == pytest.approx(9.0 * (1024 / 960) ** 2)


def test_neither_another_device_nor_another_model_is_taken_for_this_one(tmp_path):
    remember(tmp_path, WORK, 2.0)
    assert estimate(tmp_path, but(device="Other")) is None and estimate(tmp_path, but(weights=1000)) is None


def test_a_card_that_is_unknown_is_guessed_by_its_memory_and_a_cpu_is_not(tmp_path):
    small, large = (estimate(tmp_path, WORK, gib * 2**30) for gib in (6, 24))
    assert small.origin == "guessed" and small.seconds > large.seconds > 0
    assert estimate(tmp_path, but(device="cpu")) is None


def test_a_damaged_file_is_begun_anew(tmp_path):
    (tmp_path / speed_history.FILE).write_text("{")
    assert estimate(tmp_path, WORK) is None
    remember(tmp_path, WORK, 2.0)
    assert estimate(tmp_path, WORK).seconds == 2.0


def test_entries_of_another_version_are_passed_over(tmp_path):
    (tmp_path / speed_history.FILE).write_text('{"a": {"work": {"shape": 1}, "seconds": [1]}, "b": 3}')
    assert estimate(tmp_path, WORK) is None


def test_class_pictures_and_prediction_count_as_work():
    def work(**changes):
        return work_of(codec.with_values(Settings(), [(path.replace("__", "."), value) for path, value in changes.items()]), "cpu", 1)

    assert work(data__class_count="9", training__batch="3").pictures == 6
    assert work(method="dreambooth", data__class_word="cat").predicts and not work().predicts


def test_the_clock_leaves_out_the_warm_up_and_divides_by_accumulation():
    heard = []
    clock = Clock(heard.append, accumulation=2)
    assert clock.seconds is None
    for seconds, losses in ((100.0, (1.0,)), (8.0, (1.0, 1.0)), (12.0, (1.0, 1.0))):
        clock.steps(StepReport(1, 9, losses, {}, seconds))
    assert clock.seconds == pytest.approx(2.5) and len(heard) == 3


def test_a_run_stores_its_speed(tmp_path):
    bench = Bench(tmp_path)
    _, recorder, host = bench.run({"training.steps": "21"})
    assert len(recorder.losses) == 21, "the clock passes the reports on"
    (entry,) = speed_history._read(host.paths.data).values()
    assert entry["work"]["method"] == "lora" and entry["work"]["device"] == "cpu" and entry["seconds"][0] > 0
