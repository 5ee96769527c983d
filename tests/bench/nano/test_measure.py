import math

import numpy as np
import pytest

from bench.nano import measure, statistics
from bench.nano.judge import Verdict
from bench.nano.world import COLOURS, draw, subject_scene


def test_wilson_interval_of_a_known_case():
    figure = statistics.share([True] * 85 + [False] * 15)
    assert (figure.value, figure.count) == (0.85, 100)
    assert figure.low == pytest.approx(0.767, abs=1e-3)
    assert figure.high == pytest.approx(0.907, abs=1e-3)


def test_no_pictures_give_no_figure():
    assert math.isnan(statistics.share([]).value)
    assert math.isnan(statistics.mean([]).value)


def test_the_bootstrap_covers_the_mean_and_is_the_same_for_a_seed():
    values = np.random.default_rng(0).normal(3, 1, 200)
    figure = statistics.mean(values)
    assert figure.low < values.mean() < figure.high
    assert figure.high - figure.low == pytest.approx(2 * 1.96 / 200**0.5, rel=0.2)
    assert figure == statistics.mean(values)


def test_colour_distance_of_white_and_black_is_a_hundred():
    white, black = np.full((1, 8, 8, 3), 255, np.uint8), np.zeros((1, 8, 8, 3), np.uint8)
    assert measure.colour_distance(white, black) == pytest.approx([100], abs=0.1)
    assert measure.colour_distance(white, white) == pytest.approx([0])


def test_copies_are_found_and_other_pictures_are_not():
    rng = np.random.default_rng(0)
    training, held_out, painted = (np.stack([draw(subject_scene(rng, "bee-square")) for _ in range(6)]) for _ in range(3))
    assert measure.copying(training, training, held_out).value == 1
    assert measure.copying(painted, training, held_out).value < 0.5


class ColourCodeJudge:
    """Reads the verdict that a fake painter hid in a picture's first pixel."""

    def __init__(self):
        self.verdicts = []

    def paint(self, subject_at):
        def painter(prompts, seeds):
            assert len(prompts) == len(seeds)
            pictures = np.zeros((len(prompts), 16, 16, 3), np.uint8)
            for picture, prompt in zip(pictures, prompts, strict=True):
                picture[0, 0, 0] = len(self.verdicts)
                self.verdicts.append(understood(prompt, "winking-star" if subject_at(prompt) else ""))
            return pictures

        return painter

    def look(self, pictures):
        return [self.verdicts[picture[0, 0, 0]] for picture in pictures]


def understood(prompt, subject):
    """What an obedient painter would show."""
    words = prompt.split()
    ground = words[words.index("background") - 1] if "background" in words else "red"
    colour = next((word for word in words if word in COLOURS), "blue")
    pattern = next((word for word in words if word in ("striped", "dotted")), "plain")
    shape = words[5] if words[3] in ("a", "an") and words[4] in COLOURS else words[4]
    return Verdict(shape, colour, ground, pattern, subject, "", 0.5, 0.5, 0.3)


def test_figures_of_a_model_that_learned_and_forgot_nothing():
    judge = ColourCodeJudge()
    before, after = judge.paint(lambda _prompt: False), judge.paint(lambda prompt: "sks" in prompt)
    figures = measure.subject_figures(before, after, judge, "winking-star", count=20)
    assert figures["subject fidelity"].value == figures["prompt fidelity"].value == figures["class preservation"].value == 1
    assert figures["leak"].value == figures["leak, base"].value == figures["colour drift"].value * 0


def test_a_leak_is_seen():
    judge = ColourCodeJudge()
    before, after = judge.paint(lambda _prompt: False), judge.paint(lambda prompt: "star" in prompt)
    figures = measure.subject_figures(before, after, judge, "winking-star", count=20)
    assert figures["leak"].value == 1
    assert figures["class preservation"].value == 0
    assert figures["other classes"].value == 1


def test_copies_and_a_second_checkpoint_are_figures_when_given():
    judge = ColourCodeJudge()
    before, after, elsewhere = (judge.paint(subject_at) for subject_at in (lambda _p: False, lambda p: "sks" in p, lambda _p: False))
    training = np.stack([draw(subject_scene(np.random.default_rng(0), "winking-star"))])
    figures = measure.subject_figures(before, after, judge, "winking-star", count=10, training=training, elsewhere=elsewhere)
    assert figures["copying"].value == 0
    assert figures["subject fidelity, second checkpoint"].value == 0
    assert figures["prompt fidelity, second checkpoint"].value == 1
