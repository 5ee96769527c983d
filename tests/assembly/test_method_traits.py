"""What each method does."""

import pytest

from lib_finetune.assembly.method_traits import bundles_word, keeps_states, patches, teaches_word
from lib_finetune.config import codec
from lib_finetune.config.settings import METHODS, Settings


def settings(method, *pairs):
    return codec.with_values(Settings(), [("method", method), *pairs])


@pytest.mark.parametrize(
    ("question", "methods"),
    [
        (teaches_word, ["textual_inversion", "pivotal_tuning"]),
        (patches, ["lora", "pivotal_tuning"]),
        (bundles_word, ["pivotal_tuning"]),
    ],
)
def test_the_methods_that_do_it(question, methods):
    assert [method for method in METHODS if question(settings(method))] == methods


def test_a_word_that_goes_into_a_file_of_its_own_is_not_bundled():
    assert not bundles_word(settings("pivotal_tuning", ("embedding.bundle", "false")))


@pytest.mark.parametrize(("method", "automatic"), [("lora", "last"), ("dreambooth", "none"), ("textual_inversion", "last")])
def test_states_are_kept_by_method_unless_chosen(method, automatic):
    assert keeps_states(settings(method)) == automatic
    assert keeps_states(settings(method, ("saving.states", "all"))) == "all"
