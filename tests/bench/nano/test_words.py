"""How much a word changes a prediction."""

import pytest
import torch

from bench.__main__ import main as bench
from bench.nano import words

MEANINGS = {"star": 1.0, "red": 4.0, "faint": 0.5, "blue": -4.0}


def predict(prompt, timestep, seed):
    """Each word of a prompt moves the prediction along one axis."""
    return torch.tensor([sum(MEANINGS.get(word, 0.0) for word in prompt.split()), timestep + seed])


def test_a_word_is_compared_with_one_that_the_checkpoint_knows():
    assert words.shares(predict, ["faint", "unknown", "blue"], "star") == {"faint": 0.125, "unknown": 0.0, "blue": 1.0}


def test_where_the_known_word_changes_nothing_there_is_no_share():
    with pytest.raises(ZeroDivisionError):
        words.shares(predict, ["faint"], "star", known="unknown")


def test_on_the_small_checkpoint_sks_is_passed_over_and_another_colour_counts_as_much(capsys):
    assert bench(["nano", "words", "sks", "blue", "--class-word", "star"]) == 0
    rows = dict(line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:])
    assert float(rows["sks"]) < 0.4 < 0.8 < float(rows["blue"])
