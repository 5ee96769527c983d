"""A state is due by steps or by minutes, and writing takes little of the time."""

import pytest

from lib_finetune.runs.state_clock import StateClock


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def due_steps(every, step_s, write_s, steps):
    time = Clock()
    clock, due, said = StateClock(every, time), [], []
    for step in range(1, steps + 1):
        time.now += step_s
        if clock.due(step):
            time.now += write_s
            due.append(step)
            said.append(clock.wrote(write_s))
    return due, [line for line in said if line], time.now


def test_by_steps_where_they_are_quick():
    assert due_steps(3, 0.1, 0.01, 10)[0] == [3, 6, 9]


def test_by_minutes_where_they_are_slow():
    assert due_steps(200, 60.0, 1.0, 12)[0] == [5, 10]


@pytest.mark.parametrize("write_s", [9.1, 20.0, 60.0])
@pytest.mark.parametrize(("every", "step_s"), [(1, 1.0), (200, 10.0)])
def test_slow_writing_stays_below_three_percent_and_is_said_once(every, step_s, write_s):
    due, said, total = due_steps(every, step_s, write_s, 20_000)
    assert len(due) > 2 and (len(due) - 1) * write_s / total < 0.0301
    assert len(said) == 1 and "3%" in said[0]


def test_a_write_that_is_quick_again_is_due_as_before():
    time = Clock()
    clock = StateClock(1, time)
    clock.wrote(60.0)
    time.now += 2001
    assert clock.due(1) and not clock.wrote(1.0)
    time.now += 1
    assert clock.due(2)
