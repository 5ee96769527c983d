"""The card beside a file: what the person wrote there stays, what is empty is filled in."""

import json

import pytest
from PIL import Image

from lib_finetune.export.card import card_or_reason, write_card, write_picture
from lib_finetune.ports.files import Card

CARD = Card("zxq cat", 0.8, "Made with Finetune.", "rank 16")
OURS = {
    "description": "Made with Finetune.",
    "sd version": "SD1",
    "activation text": "zxq cat",
    "preferred weight": 0.8,
    "notes": "rank 16",
}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "cat.safetensors"


def test_a_new_card_holds_what_we_know(file):
    assert json.loads(write_card(file, CARD).read_text()) == OURS


def test_what_the_person_wrote_stays_and_empty_fields_are_filled(file):
    theirs = {"description": "my cat", "activation text": "", "preferred weight": 0, "notes": None, "negative text": "dog"}
    file.with_suffix(".json").write_text(json.dumps(theirs))
    assert json.loads(write_card(file, CARD).read_text()) == {**OURS, "description": "my cat", "negative text": "dog"}


@pytest.mark.parametrize("content", ["{", "[1]", '"text"'])
def test_a_card_that_is_none_is_written_anew(file, content):
    file.with_suffix(".json").write_text(content)
    assert json.loads(write_card(file, CARD).read_text()) == OURS


def test_a_card_that_cannot_be_written_is_said_and_the_file_is_good(file):
    assert card_or_reason(file, CARD) == "" and file.with_suffix(".json").is_file()
    file.with_suffix(".json").unlink()
    file.with_suffix(".json").mkdir()
    assert card_or_reason(file, CARD).startswith(" Its card was not written: ")


@pytest.mark.parametrize(("kind", "name"), [("lora", "cat.png"), ("checkpoint", "cat.png"), ("embedding", "cat.preview.png")])
def test_the_picture_lies_where_the_webui_takes_it_for_no_embedding(file, kind, name):
    assert write_picture(file, kind, Image.new("RGB", (8, 8))).name == name
