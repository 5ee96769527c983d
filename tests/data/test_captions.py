from __future__ import annotations

import random

import pytest

from lib_finetune.data.captions import class_version, compose, contains_word, final_caption, template_caption, with_trigger

TAGS = "one, two, three zxq here, four, five, six"


def test_a_caption_is_left_alone_when_nothing_is_asked():
    assert compose("a  b ,c", trigger="b", keep_tags=1, rng=random.Random(0)) == "a  b ,c"


def test_shuffling_changes_the_order_and_keeps_all_tags():
    composed = {compose(TAGS, shuffle=True, rng=random.Random(seed)) for seed in range(20)}
    assert len(composed) > 10
    assert all(sorted(caption.split(", ")) == sorted(TAGS.split(", ")) for caption in composed)


def test_the_first_tags_stay_in_front():
    for seed in range(100):
        caption = compose(TAGS, keep_tags=2, shuffle=True, tag_dropout=0.5, rng=random.Random(seed))
        assert caption.startswith("one, two")


@pytest.mark.parametrize("keep_tags", [0, 1, 5])
def test_the_trigger_survives_a_thousand_compositions(keep_tags):
    rng = random.Random(0)
    for _ in range(1000):
        caption = compose(TAGS, trigger="ZXQ", keep_tags=keep_tags, shuffle=True, tag_dropout=0.9, rng=rng)
        assert contains_word(caption, "zxq")


def test_a_trigger_with_a_comma_survives_too():
    rng = random.Random(0)
    for _ in range(200):
        caption = compose("a, zxq, b, cat, c", trigger="zxq, cat", shuffle=True, tag_dropout=0.9, rng=rng)
        assert {"zxq", "cat"} <= set(caption.split(", "))


def test_dropout_alone_keeps_the_order():
    for seed in range(50):
        tags = compose(TAGS, trigger="zxq", tag_dropout=0.5, rng=random.Random(seed)).split(", ")
        assert tags == sorted(tags, key=TAGS.split(", ").index)


def test_tags_are_dropped_as_often_as_asked():
    rng = random.Random(0)
    kept = sum(len(compose("a, b, c, d", tag_dropout=0.25, rng=rng).split(", ")) for _ in range(2000))
    assert kept / 8000 == pytest.approx(0.75, abs=0.02)


def test_caption_dropout_empties_the_caption_trigger_included():
    rng = random.Random(0)
    empty = sum(compose("zxq, b", trigger="zxq", keep_tags=1, caption_dropout=0.3, rng=rng) == "" for _ in range(2000))
    assert empty / 2000 == pytest.approx(0.3, abs=0.04)


@pytest.mark.parametrize(
    ("text", "word", "found"),
    [
        ("a photo of ZXQ dog", "zxq", True),
        ("zxq's ball", "zxq", True),
        ("zxqs", "zxq", False),
        ("my   cat sleeps", "my cat", True),
        ("a (zxq:1.2)", "zxq", True),
        ("C++ code", "c++", True),
        ("anything", "", False),
    ],
)
def test_words_are_found_as_a_whole(text, word, found):
    assert contains_word(text, word) is found


@pytest.mark.parametrize(
    ("template", "trigger", "class_word", "expected"),
    [
        ("a photo of {trigger} {class}", "zxq", "dog", "a photo of zxq dog"),
        ("a photo of {trigger} {class}", "zxq", "", "a photo of zxq"),
        ("a photo of {trigger} {class}", "", "dog", "a photo of dog"),
        ("{trigger}, {class}, outdoors", "", "dog", "dog, outdoors"),
        ("{class} by {trigger}", "{class}", "dog", "dog by {class}"),
        ("no words", "zxq", "dog", "no words"),
        ("", "zxq", "dog", ""),
    ],
)
def test_templates_are_filled_without_gaps(template, trigger, class_word, expected):
    assert template_caption(template, trigger, class_word) == expected


def test_the_caption_file_goes_before_the_template(picture):
    assert final_caption(picture(1, caption="zxq asleep"), "a photo of {trigger}", "zxq", "dog") == "zxq asleep"


def test_a_missing_trigger_is_put_in_front(picture):
    assert final_caption(picture(1, caption="asleep"), "{trigger}", "zxq", "") == "zxq, asleep"


def test_an_empty_caption_file_becomes_the_trigger(picture):
    assert final_caption(picture(1, caption=""), "{trigger}", "zxq", "") == "zxq"


def test_folder_words_count_where_neither_trigger_nor_class_is_set(picture):
    made = picture(1, caption=None, folder_words="sks dog")
    assert final_caption(made, "a photo of {trigger} {class}", "", "") == "a photo of sks dog"
    assert final_caption(made, "a photo of {trigger}", "", "") == "a photo of sks dog"
    assert final_caption(made, "a photo of {trigger} {class}", "zxq", "") == "a photo of sks dog"


def test_a_template_without_the_trigger_gets_it_in_front(picture):
    assert final_caption(picture(1, caption=None), "a dog", "zxq", "dog") == "zxq, a dog"


def test_a_trigger_inside_another_word_does_not_count():
    assert with_trigger("a cathedral", "cat") == "cat, a cathedral"


def test_no_trigger_changes_nothing():
    assert with_trigger("a dog", "") == "a dog"


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a photo of sks dog", "a photo of dog"),
        ("a photo of SKS dog on a beach, sunny", "a photo of dog on a beach, sunny"),
        ("sks, dog, on a beach", "dog, on a beach"),
        ("sks on a beach", "dog on a beach"),
        ("a photo of sksy dog", "a photo of a dog"),  # another word
        ("", "a photo of a dog"),
    ],
)
def test_a_caption_says_of_the_class_what_it_says_without_the_identifier(caption, expected):
    assert class_version(caption, "sks", "dog", "a photo of a dog") == expected


def test_an_identifier_alone_leaves_the_class():
    assert class_version("sks", "sks", "", "a photo") == "a photo" and class_version("my sks dog", "", "dog", "dog") == "dog"


COMPOSED, APART = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize(("text", "word"), [(APART, COMPOSED), (COMPOSED, APART), (f"a {APART} dog", COMPOSED.upper())])
def test_accents_are_found_however_they_are_made_up(text, word):
    assert contains_word(text, word) and with_trigger(text, word) == text


def test_a_letter_is_no_word_before_an_accent():
    assert not contains_word(APART, "cafe")


def test_a_tag_with_the_trigger_is_kept_however_its_accents_are_made_up():
    for seed in range(100):
        composed = compose(f"a, b, {APART} here, c", trigger=COMPOSED, shuffle=True, tag_dropout=0.9, rng=random.Random(seed))
        assert f"{APART} here" in composed


def test_the_class_is_found_in_a_caption_with_accents_apart():
    assert class_version(f"a photo of {APART} dog", COMPOSED, "dog", "a dog") == "a photo of dog"


def test_a_trigger_of_spaces_is_none():
    assert with_trigger("a dog", "  ") == "a dog" and with_trigger("a dog", " zxq ") == "zxq, a dog"
