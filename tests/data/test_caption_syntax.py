"""One meaning for each sign in a caption."""

import random
from collections import Counter

import pytest

from lib_finetune.data.caption_syntax import MEANINGS, meanings, read, sentences, tidied


@pytest.mark.parametrize(
    ("text", "words", "kinds"),
    [
        ("a cat, asleep", ["a cat, asleep"], ""),
        ("a\nb", ["a", "b"], "lines"),
        (r"saber \(fate\), \[x\], \{y\}, a\\b", ["saber (fate), [x], {y}, a\\b"], "escapes"),
        (r"\(a:1.2\)", ["(a:1.2)"], "escapes"),
        (r"\{a|b\}", ["{a|b}"], "escapes"),
        (r"(a \(b\):1.2)", ["a (b)"], "escapes weights"),
        (r"ends with \\"[:-1], ["ends with"], "escapes"),
        ("(a:1.2), ((b)), [c], {d}, [[e]], {{f}}", ["a, b, c, d, e, f"], "weights"),
        ("(a (b:1.3) c:.9), (d:-1), (e: 1.5 )", ["a b c, d, e"], "weights"),
        ("(masterpiece, best quality), x", ["masterpiece, best quality, x"], "weights"),
        ("(un:1.1)happy", ["un happy"], "weights"),
        ("saber (fate), a (very) red cat", ["saber (fate), a (very) red cat"], "names"),
        ("saber (fate:1.2)", ["saber fate"], "weights"),
        ("a clock (10:30), (16:9), [4:3]", ["a clock (10:30), (16:9), [4:3]"], ""),
        ("x[1], a < b, <3, :), :(, {}, ()", ["x[1], a < b, <3, :), :(, {}, ()"], ""),
        ("( a, b], c}", ["( a, b], c}"], ""),
        ("{red|blue} hat", ["red hat", "blue hat"], "choices"),
        ("{red|{dark|light} blue}ish", ["redish", "dark blueish", "light blueish"], "choices"),
        ("{2$$a|b|c}, {1-2$$ and $$d|e}", ["a, d", "a, e", "b, d", "b, e", "c, d", "c, e"], "choices"),
        ("{0.5::a|2::b}", ["a", "b"], "choices"),
        ("a{, big|} cat", ["a, big cat", "a cat"], "choices"),
        ("{(a:1.2)|b}", ["a", "b"], "choices weights"),
        ("[a:b:0.5] x, [c:10], [d::3]", ["a x, c, d", "b x, c, d"], "choices"),
        ("[cow|horse] in a field", ["cow in a field", "horse in a field"], "choices"),
        ("__colour__ cat, __dir/sub-1__, __*__, ^__^, a__b", ["cat, ^__^, a__b"], "wildcards"),
        ("a cat <lora:some thing:0.7>, <hypernet:x:1>, <lyco:y>", ["a cat"], "networks"),
        ("a cat BREAK a dog,BREAK,a bird", ["a cat, a dog, a bird"], "breaks"),
        ("a cat :1.2 AND a dog:0.5", ["a cat, a dog"], "breaks"),
        ("ROCK AND ROLL, 'TAKE A BREAK', PRISON BREAK, BRANDING", ["ROCK AND ROLL, 'TAKE A BREAK', PRISON BREAK, BRANDING"], ""),
        ("zxq, cat ||| red hat ;;; sitting", ["zxq, cat, red hat, sitting"], "separators"),
        ("# mine\na cat\n#", ["a cat"], "comments"),
        ("#cute #cat", ["#cute #cat"], ""),
        ("{trigger} and {class}", ["{trigger} and {class}"], ""),
        (
            "a photo\nof a cat\nNegative prompt: bad\nworse\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1",
            ["a photo of a cat"],
            "notes",
        ),
        ("(a cat:1.1)\nSteps: 20, Sampler: Euler a, Seed: 1", ["a cat"], "notes weights"),
        ("<lora:x:1>", [""], "networks"),
        ("# only this", [""], "comments"),
        ("", [""], ""),
    ],
)
def test_each_sign_has_its_meaning(text, words, kinds):
    reading = read(tidied(text))
    assert reading.every() == words and reading.first == words[0]
    assert reading.kinds == set(kinds.split()) and reading.varies == (len(words) > 1)


@pytest.mark.parametrize("text", ["a\nb", "a {b|c {d|e}}", "[a:b:0.3]\n{x|y}"])
def test_all_that_a_caption_may_say_is_drawn_at_some_time_and_a_seed_gives_the_same(text):
    draws = [read(text).pick(random.Random(seed)) for seed in range(200)]
    assert set(draws) == set(read(text).every())
    assert draws == [read(text).pick(random.Random(seed)) for seed in range(200)]


def test_shares_of_a_choice_are_kept_to():
    counts = Counter(read("{3::a|b}").pick(random.Random(seed)) for seed in range(2000))
    assert counts["a"] / 2000 == pytest.approx(0.75, abs=0.04)


@pytest.mark.parametrize("text", ["(" * 5000 + ")" * 5000, "{" * 3000, "{a|b}" * 300, "[a:" * 1000, "((((a:1.1)" * 200])
def test_endless_brackets_end_in_time(text):
    reading = read(tidied(text))
    assert reading.every() and reading.pick(random.Random(1))


def test_text_that_nobody_tidied_is_read_alike():
    assert read("a \n\n b\n").every() == ["a", "b"]


@pytest.mark.parametrize("text", ["a\r\nb\r\n", "\n a \n\n  b", "a\rb"])
def test_lines_are_tidied(text):
    assert tidied(text) == "a\nb"


def test_letters_are_composed():
    assert tidied("cafe\u0301") == "caf\u00e9"


def test_captions_with_signs_are_counted_by_kind():
    said = sentences(["a\n(b:1.2)", "(c:1.3)", "plain", None, ""])
    assert [line.split(":")[-1][:3] for line in said] == [" 1.", " 2."] and "several lines" in said[0] and "weights" in said[1]
    assert sentences(["plain"]) == [] == meanings("plain") == meanings(None)


def test_every_kind_of_sign_is_said():
    every = ["a\nb", r"\(", "(a:1)", "a (b)", "{a|b}", "__a__", "<lora:a:1>", "a BREAK b", "a ||| b", "# a\nb", "a\nSteps: 2, Seed: 1"]
    assert len(sentences(every)) == len(MEANINGS) == len(every)
    assert [len(meanings(text)) for text in every] == [1] * len(every)


@pytest.mark.parametrize("text", ["a\u200b cat", "\u202aa cat\u202c", "a cat\x1a", "\ufeffa cat", "a\u00ad cat", "a\x00 cat"])
def test_letters_that_nobody_sees_are_no_part_of_a_caption(text):
    assert tidied(text) == "a cat"


def test_joined_signs_stay_joined():
    assert tidied("a \U0001f469\u200d\U0001f52c") == "a \U0001f469\u200d\U0001f52c"
