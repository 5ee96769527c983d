"""What is proposed for a result that is too weak or overdone."""

import pytest

from lib_finetune.app.feedback import OVERDONE, TOO_WEAK, change, next_step
from lib_finetune.config import codec
from lib_finetune.config.settings import Settings
from lib_finetune.errors import InputError

FLAT = [(step, 0.1) for step in range(1, 501)]
FALLING = [(step, 0.2 - 0.0002 * step) for step in range(1, 501)]


def settings(**changes):
    return codec.with_values(Settings(), [(path.replace("__", "."), value) for path, value in changes.items()])


@pytest.mark.parametrize(
    ("verdict", "losses", "points", "validation", "given", "kind", "value"),
    [
        (TOO_WEAK, FALLING, [], [], {}, "steps", 250),
        (TOO_WEAK, FLAT, [], [(400, 0.2), (500, 0.1)], {}, "steps", 250),
        (TOO_WEAK, FLAT, [], [(400, 0.1), (500, 0.2)], {}, "weight", 1.0),
        (TOO_WEAK, FLAT, [], [], {}, "weight", 1.0),
        (TOO_WEAK, FLAT, [], [], {"preview__weight": "1"}, "rate", 2.0),
        (TOO_WEAK, FLAT, [], [], {"method": "dreambooth"}, "rate", 2.0),
        (OVERDONE, FLAT, [100, 200, 300, 400, 500], [(200, 0.1), (500, 0.2)], {}, "point", 200),
        (OVERDONE, FLAT, [100, 200, 300, 400, 500], [], {}, "point", 300),
        (OVERDONE, FLAT, [500], [], {}, "weight", 0.6),
        (OVERDONE, FLAT, [500], [], {"preview__weight": "0.5"}, "rate", 0.5),
        (OVERDONE, [], [], [], {"method": "textual_inversion"}, "rate", 0.5),
    ],
)
def test_one_change_is_proposed(verdict, losses, points, validation, given, kind, value):
    found = change(verdict, settings(**given), losses, points, validation)
    assert (found.kind, found.value) == (kind, value) and found.text.endswith(".")


def test_another_verdict_is_refused():
    with pytest.raises(InputError, match="too weak"):
        change("nice", Settings(), FLAT, [])


@pytest.mark.parametrize(
    ("losses", "points", "validation", "drift", "kind", "value"),
    [
        (FLAT, [100, 200, 500], [], [(100, 3.0), (200, 8.0), (500, 38.0)], "point", 200),
        (FLAT, [500], [], [(100, 20.0), (500, 38.0)], "rate", 0.5),
        (FLAT, [100, 200, 500], [(100, 0.3), (200, 0.1), (500, 0.2)], [(500, 3.0)], "point", 200),
        (FLAT, [500], [(100, 0.3), (200, 0.2), (500, 0.1)], [], "steps", 250),
        (FALLING, [500], [], [], "steps", 250),
    ],
)
def test_figures_suggest_what_to_try_next(losses, points, validation, drift, kind, value):
    found = next_step(losses, points, validation, drift)
    assert (found.kind, found.value) == (kind, value) and found.text.endswith(".")


@pytest.mark.parametrize("validation", [[], [(100, 0.1), (500, 0.2)], [(100, 0.3), (200, 0.1), (500, 0.2)]])
def test_figures_that_say_nothing_suggest_nothing(validation):
    assert next_step(FLAT, [500], validation, [(500, 3.0)]) is None and next_step([], [], [], []) is None
