"""Extra networks in texts."""

import pytest

from lib_finetune.text.extra_networks import without_networks


@pytest.mark.parametrize(
    ("text", "rest", "tags"),
    [
        ("a photo of zxq <lora:cat:0.8>", "a photo of zxq", ("<lora:cat:0.8>",)),
        ("<lyco:a:1:0.5:dyn=4>, a cat, <hypernet:b:1>", "a cat", ("<lyco:a:1:0.5:dyn=4>", "<hypernet:b:1>")),
        ("a <lora:b> dog", "a dog", ("<lora:b>",)),
        ("<LoRA:B:1><wildcard_net:c:2>", "", ("<LoRA:B:1>", "<wildcard_net:c:2>")),
        ("a cat <3 and a :> face, (a dog:1.2), <b>", "a cat <3 and a :> face, (a dog:1.2), <b>", ()),
        ("", "", ()),
    ],
)
def test_tags_are_taken_out_and_nothing_else(text, rest, tags):
    assert without_networks(text) == (rest, tags)
