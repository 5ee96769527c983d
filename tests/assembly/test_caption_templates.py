"""Which template captions follow, for what the training images show."""

import pytest

from lib_finetune.assembly.caption_templates import caption_template, class_template, word_templates
from lib_finetune.config import codec
from lib_finetune.config.settings import Settings


def settings(**data):
    return codec.with_values(Settings(), [(name.replace("__", "."), value) for name, value in data.items()])


@pytest.mark.parametrize(
    ("data", "of_captions", "of_the_class", "of_a_word"),
    [
        ({}, "a photo of {trigger} {class}", "a photo of {trigger} {class}", "subject"),
        ({"data__kind": "person"}, "a photo of {trigger} {class}", "a photo of {trigger} {class}", "subject"),
        (
            {"data__kind": "person", "data__drawn": "true"},
            "a drawing of {trigger} {class}",
            "a drawing of {trigger} {class}",
            "drawn",
        ),
        ({"data__kind": "thing", "data__drawn": "true"}, "a photo of {trigger} {class}", "a photo of {trigger} {class}", "subject"),
        ({"data__kind": "style"}, "a picture in the style of {trigger}", "{class}", "style"),
    ],
)
def test_the_default_follows_what_the_images_show(data, of_captions, of_the_class, of_a_word):
    tree = settings(**data)
    assert (caption_template(tree), class_template(tree), word_templates(tree)) == (of_captions, of_the_class, of_a_word)


def test_templates_of_ones_own_are_never_replaced():
    tree = settings(data__kind="style", data__template="my {trigger}", embedding__template="drawn")
    assert (caption_template(tree), class_template(tree), word_templates(tree)) == ("my {trigger}", "my {trigger}", "drawn")
