"""The settings tree holds values; it answers no questions, and files that people have stay valid."""

import inspect
import json
from pathlib import Path

import pytest

from lib_finetune.config import settings
from lib_finetune.config.fields import leaves

RELIED_ON = json.loads((Path(__file__).parents[1] / "golden" / "settings.json").read_text(encoding="utf-8"))


def test_the_module_of_the_tree_has_no_public_function():
    own = [name for name, value in inspect.getmembers(settings, inspect.isfunction) if value.__module__ == settings.__name__]
    assert [name for name in own if not name.startswith("_")] == []


def test_the_methods_with_a_trait_are_methods():
    assert {*settings.WORD_METHODS, *settings.PATCH_METHODS} <= set(settings.METHODS)


@pytest.mark.parametrize("path", RELIED_ON)
def test_what_was_valid_stays_valid_and_what_is_left_out_means_the_same(path):
    relied_on, leaf = RELIED_ON[path], {leaf.path: leaf for leaf in leaves(settings.Settings)}[path]
    assert leaf.default == relied_on["default"]
    assert relied_on["low"] is None or leaf.about.low is None or leaf.about.low <= relied_on["low"]
    assert relied_on["high"] is None or leaf.about.high is None or leaf.about.high >= relied_on["high"]
    assert relied_on["choices"] is None or {*relied_on["choices"]} <= {*(leaf.about.allowed() or relied_on["choices"])}
