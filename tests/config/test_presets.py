import itertools

import pytest

from lib_finetune.config.codec import all_leaves
from lib_finetune.config.fields import replaced, value_at
from lib_finetune.config.presets import applied, preset
from lib_finetune.config.settings import KINDS, METHODS, Settings
from lib_finetune.config.validation import validate

EVERY = list(itertools.product(KINDS, METHODS))
READY = replaced(replaced(Settings(), "name", "x"), "data.images", "x")


@pytest.mark.parametrize(("kind", "method"), EVERY)
def test_every_value_is_valid_applies_and_differs_from_the_default(kind, method):
    found = applied(READY, kind, method)
    validate(found)
    for choice in preset(kind, method):
        leaf = all_leaves()[choice.path]
        assert value_at(found, choice.path) == choice.value != leaf.default
        assert leaf.about.when is None or leaf.about.when(found)
        assert choice.reason and choice.source


def test_every_kind_has_a_preset_for_every_method_and_no_kind_has_none():
    assert all(bool(preset(kind, method)) == bool(kind) for kind, method in EVERY)
    assert not any(choice.path == "data.flip" for method in METHODS for choice in preset("person", method))


@pytest.mark.parametrize(("kind", "method"), EVERY)
def test_going_back_leaves_nothing_behind(kind, method):
    assert applied(applied(READY, kind, method), "", "lora") == READY


def test_what_the_person_set_stays():
    own = replaced(replaced(READY, "network.rank", 64), "data.crop", "random")
    found = applied(applied(own, "style", "lora"), "thing", "lora")
    assert (found.network.rank, found.data.crop, found.network.alpha) == (64, "random", 4.0)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="plant"):
        preset("plant", "lora")
