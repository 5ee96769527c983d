"""What is wrong with settings is said, all at once."""

import dataclasses

import pytest

from lib_finetune.config import codec
from lib_finetune.config.describe import describe
from lib_finetune.config.fields import replaced, value_at
from lib_finetune.config.settings import Data, Settings
from lib_finetune.config.validation import name_faults, validate
from lib_finetune.errors import InputError

GOOD = Settings(name="cat", data=Data(images="/pictures"))


def test_good_settings_pass():
    validate(GOOD)


def test_all_problems_come_together():
    bad = codec.with_values(Settings(), [("network.rank", "0"), ("training.steps", "0"), ("data.resolution", "100"), ("name", "a/b")])
    with pytest.raises(InputError) as caught:
        validate(bad)
    fields = {problem.field for problem in caught.value.problems}
    assert fields >= {"network.rank", "training.steps", "data.resolution", "name", "data.images"}


@pytest.mark.parametrize("name", ["", "  ", "a/b", "a\\b", "..", "a:b", "<x>", "con", "x" * 200, "dot.", "a,b", "(a)"])
def test_names_that_are_no_file_names_are_refused(name):
    assert name_faults(name)


@pytest.mark.parametrize("name", ["my-cat", "anna_v2", "猫", "a.b"])
def test_plain_names_are_fine(name):
    assert not name_faults(name)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_must_be_finite(value):
    with pytest.raises(InputError, match="finite"):
        validate(dataclasses.replace(GOOD, network=dataclasses.replace(GOOD.network, alpha=value)))


@pytest.mark.parametrize("path", [path for path, leaf in codec.all_leaves().items() if leaf.about.low is not None])
def test_every_number_has_its_limits(path):
    leaf = codec.all_leaves()[path]
    for outside in (leaf.about.low - 1, leaf.about.high + 1):
        settings = replaced(GOOD, path, leaf.type(outside))
        with pytest.raises(InputError, match=path.replace(".", r"\.")):
            validate(settings)


def test_the_reference_names_every_setting():
    text = describe()
    assert all(path in text for path in codec.all_leaves())


def test_every_setting_is_explained():
    assert all(leaf.about.help and leaf.about.label for leaf in codec.all_leaves().values())


def test_defaults_are_within_their_own_limits():
    assert all(value_at(GOOD, path) == leaf.default or path in ("name", "data.images") for path, leaf in codec.all_leaves().items())
