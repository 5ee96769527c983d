"""Settings that do not go together are refused with the field and with what to do."""

import pytest

from lib_finetune.config import codec
from lib_finetune.config.settings import Settings
from lib_finetune.preflight import conflicts

DREAMBOOTH = {"method": "dreambooth", "name": "dog", "data.images": "/images", "data.trigger": "sks", "data.class_word": "dog"}


def problems(**changes):
    pairs = {**DREAMBOOTH, **{path.replace("__", "."): str(value) for path, value in changes.items()}}
    return {problem.field: problem.message for problem in conflicts._tuning_problems(codec.with_values(Settings(), pairs.items()))}


def test_the_defaults_go_together():
    assert problems() == {}


@pytest.mark.parametrize(
    ("changes", "field", "advice"),
    [
        ({"data__trigger": " "}, "data.trigger", "sks works best"),
        ({"tuning__in_backward": "on", "training__accumulation": 2}, "tuning.in_backward", "set training.accumulation to 1"),
        ({"tuning__weights": "bf16", "training__ema_decay": 0.99}, "training.ema_decay", "set tuning.weights to fp32"),
        ({"tuning__weights": "bf16", "training__precision": "fp16"}, "tuning.weights", "set training.precision to auto"),
        ({"tuning__weights": "bf16", "training__precision": "fp32"}, "tuning.weights", "not in fp32"),
        ({"tuning__weights": "bf16", "optimizer__name": "prodigy"}, "optimizer.name", "tuning.weights and tuning.in_backward to auto"),
        ({"tuning__in_backward": "on", "optimizer__name": "prodigy"}, "optimizer.name", "one learning rate for all"),
    ],
)
def test_each_conflict_is_one_problem_at_its_field(changes, field, advice):
    found = problems(**changes)
    assert list(found) == [field] and advice in found[field]


@pytest.mark.parametrize(
    "changes",
    [
        {"tuning__in_backward": "on"},
        {"tuning__in_backward": "auto", "training__accumulation": 2},
        {"tuning__weights": "fp32", "training__ema_decay": 0.99},
        {"tuning__weights": "bf16", "training__precision": "bf16"},
        {"optimizer__name": "prodigy"},
    ],
)
def test_what_goes_together_is_no_problem(changes):
    assert problems(**changes) == {}
