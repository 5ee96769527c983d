"""What log, tab, help and metadata say of a run is what the run does: each sentence is compared with what was counted."""

import pytest

from tests.fakes.runs import Bench, metadata
from tests.fakes.watched_run import check, watching


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path, pictures=3)


def watched(bench, changes=None, expect=(), **how):
    """A run, counted and compared with what it says."""
    with watching() as counted:
        result, recorder, host = bench.run(changes, **how)
    check(counted, recorder.lines, metadata(result.file), expect)
    return counted, recorder, host


def test_the_recorder_counts_steps_pictures_rates_and_scales(bench):
    counted, _, _ = watched(bench, {"training.accumulation": "2"})
    assert counted.steps == 4 and sum(counted.views.values()) == 8 and counted.accumulation == 2
    assert counted.trained("unet") == [1, 2, 3, 4] and counted.highest("unet") > 0
    assert counted.scales == {"unet": {4.0}, "text": {4.0}} and counted.epoch_steps == 3
