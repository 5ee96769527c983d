"""The settings tree holds values; it answers no questions."""

import inspect

from lib_finetune.config import settings


def test_the_module_of_the_tree_has_no_public_function():
    own = [name for name, value in inspect.getmembers(settings, inspect.isfunction) if value.__module__ == settings.__name__]
    assert [name for name in own if not name.startswith("_")] == []


def test_the_methods_with_a_trait_are_methods():
    assert {*settings.WORD_METHODS, *settings.PATCH_METHODS} <= set(settings.METHODS)
