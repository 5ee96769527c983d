import itertools

import pytest

from lib_finetune.config.settings import KINDS
from lib_finetune.estimates.method_choice import WISHES, Advice, Case, advise

TI, LORA, DB = "textual_inversion", "lora", "dreambooth"
NO_DB = {DB: False}


@pytest.mark.parametrize(
    ("kind", "drawn", "pictures", "wish", "fits", "method"),
    [
        ("person", False, 10, "", {}, TI),
        ("person", True, 10, "", {}, LORA),
        ("person", None, 10, "", {}, LORA),
        ("animal", None, 10, "", {}, LORA),
        ("thing", None, 5, "", {}, LORA),
        ("", None, 5, "", {}, LORA),
        ("style", None, 30, "", {}, LORA),
        ("animal", None, 10, "small file", {}, TI),
        ("thing", None, 10, "many models", {}, TI),
        ("person", True, 10, "many models", {}, TI),
        ("style", None, 30, "small file", {}, LORA),
        ("style", None, 30, "many models", {}, LORA),
        ("person", False, 14, "likeness", {}, LORA),
        ("person", False, 15, "likeness", {}, DB),
        ("thing", None, 15, "whole style", {}, DB),
        ("style", None, 40, "whole style", {}, DB),
        ("person", False, 30, "likeness", NO_DB, LORA),
        ("style", None, 30, "likeness", NO_DB, LORA),
        ("animal", None, 10, "", {LORA: False}, TI),
        ("style", None, 30, "", {LORA: False}, DB),
        ("person", False, 10, "", {TI: False}, LORA),
        ("style", None, 30, "", {LORA: False, DB: False}, ""),
        ("person", False, 10, "", {LORA: False, DB: False, TI: False}, ""),
    ],
)
def test_the_rule(kind, drawn, pictures, wish, fits, method):
    assert advise(Case(kind, drawn, pictures, wish, fits)).method == method


def test_neither_what_does_not_fit_nor_a_word_for_a_style_is_ever_recommended():
    for kind, drawn, pictures, wish in itertools.product(KINDS, (None, True, False), (0, 1, 14, 15, 100), WISHES):
        for left in range(8):
            fits = {method: bool(left >> place & 1) for place, method in enumerate((LORA, DB, TI))}
            method = advise(Case(kind, drawn, pictures, wish, fits)).method
            assert not method or fits[method]
            assert method or not any(fits.values()) or (kind == "style" and not fits[LORA] and not fits[DB])
            assert not (kind == "style" and method == TI)


def test_the_reason_is_one_line():
    assert advise(Case("person", None, 10)) == Advice(LORA, "10 images of a person: LoRA", "Photo or drawn?")
    assert advise(Case("person", False, 20, "likeness", NO_DB)).reason == (
        "20 images of a person in photos, the best likeness: LoRA, for DreamBooth does not fit"
    )
    assert "fewer than 15" in advise(Case("animal", None, 3, "likeness")).reason


@pytest.mark.parametrize(("kind", "drawn", "asked"), [("person", None, True), ("person", True, False), ("animal", None, False)])
def test_photo_or_drawn_is_asked_for_a_person_where_it_is_not_known(kind, drawn, asked):
    assert bool(advise(Case(kind, drawn, 10)).question) == asked


def test_an_unknown_wish_is_refused():
    with pytest.raises(ValueError, match="cheap"):
        advise(Case("person", None, 10, "cheap"))
