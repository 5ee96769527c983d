"""What is far above the beginning: the smoothed loss, against the mean of the first tenth of the steps."""

import pytest

from lib_finetune.jobs.loss_series import LossSeries
from lib_finetune.training.curve import Curve


def judged(steps, losses):
    curve = Curve(steps)
    return [curve.add(loss) for loss in losses]


def test_before_fifty_losses_nothing_finite_is_far():
    assert all(judged(100, [0.1] * 10 + [1e9] * 39)) and not judged(100, [0.1] * 49 + [1e9])[-1]


def test_far_is_one_and_a_half_times_the_first_mean_smoothed_as_the_curve_is_shown():
    losses = [0.4, 0.6] * 25 + [1.0] * 60
    series = LossSeries()
    series.add(list(enumerate(losses)))
    smooth = [value for _, value in series.smooth]
    assert judged(500, losses)[50:] == [value <= 1.5 * 0.5 for value in smooth[50:]]
    assert not judged(500, losses)[-1] and judged(500, losses)[50]


def test_the_beginning_is_a_tenth_of_the_steps():
    losses = [0.1] * 50 + [0.3] * 200
    assert not judged(500, losses)[-1] and judged(2000, losses)[-1]


def test_it_comes_down_again():
    found = judged(100, [0.5] * 50 + [3.0] * 5 + [0.5] * 80)
    assert not found[54] and found[-1]


def test_to_look_is_not_to_remember():
    curve = Curve(100)
    for _ in range(60):
        curve.add(0.5)
    before = curve.state()
    assert not curve.near(100.0) and curve.near(0.5) and curve.state() == before


@pytest.mark.parametrize("stop", [10, 50, 55, 70])
def test_a_run_that_goes_on_judges_as_one_that_was_never_stopped(stop):
    losses = [0.5 + 0.01 * (step % 7) for step in range(60)] + [1.2] * 20
    first, second = Curve(600), Curve(9000)  # more steps were asked for: the beginning stays what it was
    found = [first.add(loss) for loss in losses[:stop]]
    second.load_state(first.state())
    assert found + [second.add(loss) for loss in losses[stop:]] == judged(600, losses)
