"""What an optimizer demands, and what values of other tools mean here, is said before the start, with the setting to use."""

import importlib.util

import pytest
import torch

from lib_finetune.assembly import automatic_settings
from lib_finetune.config import codec, other_tools
from lib_finetune.config.optimizer_demands import DEMANDS, demands_in_words
from lib_finetune.config.settings import Optimizer, Settings
from lib_finetune.config.validation import validate
from lib_finetune.errors import InputError
from lib_finetune.preflight import conflicts
from lib_finetune.preflight.problems import problems
from lib_finetune.training.optim import OPTIMIZERS
from tests.fakes.runs import Bench, settings

CPU = torch.device("cpu")
METHODS = {
    "lora": {},
    "pivot": {"method": "pivotal_tuning", "name": "zxqcat"},
    "whole": {"method": "dreambooth"},
    "word": {"method": "textual_inversion", "name": "zxqcat"},
}
RATES = {
    "lora": ("unet", "text encoder"),
    "pivot": ("unet", "text encoder", "embedding"),
    "whole": ("unet", "text encoder"),
    "word": ("embedding",),
}


def of(tmp_path, **changes):
    return settings(tmp_path, {name.replace("__", "."): value for name, value in changes.items()})


def fields(found):
    return [problem.field for problem in found]


def test_the_table_and_the_registered_optimizers_agree():
    assert set(DEMANDS) == set(OPTIMIZERS)
    assert {name for name in OPTIMIZERS if OPTIMIZERS[name].rate_factor is None} == {name for name, d in DEMANDS.items() if d.finds_rate}


def test_the_help_tells_the_table():
    assert demands_in_words() in Optimizer.__dataclass_fields__["name"].metadata["finetune"].help
    assert "prodigy finds its own learning rate, takes one rate" in demands_in_words()


@pytest.mark.skipif(not importlib.util.find_spec("prodigyopt"), reason="prodigyopt is missing")
@pytest.mark.parametrize("method", METHODS)
def test_a_second_rate_where_one_is_taken_is_refused_with_the_setting_to_use(tmp_path, method):
    for group in RATES[method]:
        path = automatic_settings.RATES[group]
        chosen = settings(tmp_path, {**METHODS[method], "optimizer.name": "prodigy", path: "0.5"})
        found = conflicts.optimizer_problems(chosen, CPU)
        if group == RATES[method][0]:
            assert not found  # the others follow it
        else:
            assert fields(found) == [path] and "to auto" in found[0].message and "0.5" in found[0].message


@pytest.mark.skipif(not importlib.util.find_spec("prodigyopt"), reason="prodigyopt is missing")
def test_the_check_says_it_and_a_part_that_is_not_trained_has_no_rate(tmp_path):
    bench = Bench(tmp_path)
    two = {"optimizer.name": "prodigy", "optimizer.unet_rate": "1", "optimizer.text_encoder_rate": "0.5"}
    assert "optimizer.text_encoder_rate" in fields(problems(settings(bench.images, two), bench.host()))
    assert not problems(settings(bench.images, {**two, "network.text_encoder": "false"}), bench.host())
    assert not problems(settings(bench.images, {**two, "optimizer.text_encoder_rate": "1"}), bench.host())


def test_an_optimizer_of_another_device_and_a_missing_library_are_said_before_the_start(tmp_path, monkeypatch):
    found = conflicts.optimizer_problems(of(tmp_path, optimizer__name="adamw8bit"), CPU)
    assert any("cuda" in problem.message and "adamw" in problem.message for problem in found)
    monkeypatch.setitem(__import__("sys").modules, "lion_pytorch", None)
    found = conflicts.optimizer_problems(of(tmp_path, optimizer__name="lion"), CPU)
    assert fields(found) == ["optimizer.name"] and "pip install" in found[0].message


@pytest.mark.parametrize(("steps", "said"), [("120", True), ("499", True), ("500", False)])
def test_a_run_too_short_to_find_a_rate_is_told(tmp_path, steps, said):
    notes = automatic_settings.resolved(of(tmp_path, optimizer__name="prodigy", training__steps=steps), 4, 1)[1]
    assert any("learns next to nothing" in note and "adamw" in note for note in notes) == said


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"method": "pivotal_tuning", "name": "zxqcat", "embedding.until": "0.01", "training.steps": "20"}, "embedding.until"),
        (
            {"method": "pivotal_tuning", "name": "zxqcat", "network.begin": "0.9", "embedding.until": "1", "training.steps": "4"},
            "network.begin",
        ),
        ({"method": "pivotal_tuning", "name": "zxqcat", "embedding.until": "0.4", "training.steps": "1"}, "embedding.until"),
    ],
)
def test_a_part_that_would_stand_still_is_refused(tmp_path, changes, field):
    bench = Bench(tmp_path)
    found = problems(settings(bench.images, changes), bench.host())
    assert fields(found) == [field] and "none of the" in found[0].message


ANSWERED = [
    ("network.alpha", "0", "network.alpha to 2"),
    ("network.alpha", "-1", "network.alpha to 2"),
    ("optimizer.unet_rate", "-1", "to auto"),
    ("optimizer.unet_rate", "0", "textual_inversion"),
    ("optimizer.text_encoder_rate", "0", "network.text_encoder to false"),
    ("optimizer.text_encoder_rate", "-1", "to auto"),
    ("embedding.rate", "0", "embedding.until"),
    ("training.steps", "0", "to auto"),
    ("training.steps", "-1", "to auto"),
    ("training.seed", "-1", "42"),
    ("preview.seed", "-1", "42"),
    ("training.clip_skip", "0", "to 1"),
    ("training.clip_skip", "-2", "to 2"),
    ("training.batch", "0", "to 1"),
    ("optimizer.warmup", "100", "share of the steps"),
    ("tuning.text_encoder_until", "-1", "to 0"),
    ("tuning.text_encoder_until", "500", "share of the steps"),
    ("objective.min_snr_gamma", "-1", "to 0"),
    ("objective.timestep_max", "1000", "999"),
    ("data.caption_dropout", "5", "0.05"),
    ("preview.every", "-1", "to 0"),
    ("saving.every_steps", "-1", "to 0"),
    ("network.conv_rank", "-1", "to 0"),
    ("network.factor", "-1", "to 16"),
    ("network.adapter", "locon", "network.conv_rank"),
    ("optimizer.name", "AdamW8bit", "Write adamw8bit"),
    ("optimizer.schedule", "constant_with_warmup", "optimizer.warmup"),
    ("training.precision", "no", "fp32"),
]


@pytest.mark.parametrize(("path", "value", "answer"), ANSWERED)
def test_what_a_value_means_in_other_tools_is_answered_with_the_setting_here(tmp_path, path, value, answer):
    with pytest.raises(InputError) as caught:
        validate(settings(tmp_path, {path: value}))
    assert [problem.field for problem in caught.value.problems] == [path] and answer in caught.value.problems[0].message


@pytest.mark.parametrize("path", ["data.caption_dropout", "data.tag_dropout", "network.dropout"])
def test_one_is_a_whole_share_and_no_percent(tmp_path, path):
    with pytest.raises(InputError) as caught:
        validate(settings(tmp_path, {path: "1"}))
    (problem,) = caught.value.problems
    assert "percent" not in problem.message and "0.01" not in problem.message and "0.9" in problem.message
    with pytest.raises(InputError, match=r"for 1\.5 percent set it to 0\.015"):
        validate(settings(tmp_path, {path: "1.5"}))


def test_the_answer_for_a_text_encoder_that_is_left_out_is_the_methods(tmp_path):
    with pytest.raises(InputError, match=r"tuning\.text_encoder_until to 0"):
        validate(of(tmp_path, method="dreambooth", optimizer__text_encoder_rate="0"))


def test_every_number_below_its_range_and_every_setting_that_is_answered_exists(tmp_path):
    known = {path for path, *_ in other_tools._HABITS} | set(other_tools._WORDS)
    assert known <= set(codec.all_leaves())
    unanswered = [
        path
        for path, leaf in codec.all_leaves().items()
        if leaf.about.low is not None and leaf.about.low >= 0 and leaf.type in (int, float) and not other_tools.answer(Settings(), path, -1)
    ]
    assert unanswered == ["data.resolution", "objective.huber_c", "objective.unmasked_weight"]
