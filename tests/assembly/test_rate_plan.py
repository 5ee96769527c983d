"""The steps in which each group of parameters learns, and at which rate."""

import pytest

from lib_finetune.assembly import rate_plan
from lib_finetune.config import codec
from lib_finetune.config.settings import Settings


def learning(group, steps, **changes):
    pairs = {path.replace("__", "."): str(value) for path, value in changes.items()}
    return rate_plan._learning(codec.with_values(Settings(), pairs.items()), group, steps)


@pytest.mark.parametrize(
    ("until", "steps", "last"),
    [(0.5, 1, 1), (0.4, 1, 0), (0.5, 3, 2), (0.5, 10, 5), (0.24, 2, 0), (0.3, 2, 1), (1.0, 7, 7), (0.0, 7, 0)],
)
def test_a_word_learns_for_its_share_of_the_steps(until, steps, last):
    assert learning("embedding", steps, method="pivotal_tuning", embedding__until=until) == (0, last)


def test_patches_around_a_word_begin_after_their_share():
    assert learning("unet", 10, method="pivotal_tuning", network__begin=0.3) == (3, 10)
    assert learning("text encoder", 10, method="pivotal_tuning", network__begin=0.3) == (3, 10)


def test_the_text_encoder_of_dreambooth_learns_for_its_share_and_the_unet_to_the_end():
    assert learning("text encoder", 10, method="dreambooth", tuning__text_encoder_until=0.25) == (0, 3)
    assert learning("unet", 10, method="dreambooth", tuning__text_encoder_until=0.25) == (0, 10)


@pytest.mark.parametrize("method", ["lora", "textual_inversion"])
def test_of_other_methods_all_learn_in_all_steps(method):
    assert {learning(group, 9, method=method) for group in ("unet", "text encoder", "embedding")} == {(0, 9)}
