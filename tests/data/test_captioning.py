"""The caption of an image before and after a step varies it."""

from pathlib import Path

import pytest

from lib_finetune.data.captioning import Captioning
from lib_finetune.data.plan import Plan
from lib_finetune.data.plan_report import lines
from lib_finetune.data.scan import Picture


def test_a_missing_trigger_is_put_in_front_and_the_plain_caption_shows_that_it_was(picture):
    captioning = Captioning("zxq", "dog")
    assert captioning.plain(picture(1, caption="a dog")) == "a dog"
    assert captioning.final(picture(1, caption="a dog")) == "zxq, a dog"


def test_a_class_picture_follows_its_own_template_without_the_trigger(picture):
    assert Captioning("zxq", "dog").of_class(picture(1, caption=None)) == "a photo of dog"
    assert Captioning("zxq", "dog", class_template="one {class}").of_class(picture(1, caption=None)) == "one dog"


def test_templates_give_way_to_text_files_unless_they_win(picture):
    written, bare = picture(1, caption="my words"), picture(2, caption=None)
    gentle, winning = (Captioning("zxq", templates=("a {trigger}", "b {trigger}"), templates_win=win) for win in (False, True))
    assert (gentle.uses_templates(written), gentle.uses_templates(bare)) == (False, True)
    assert winning.uses_templates(written)
    assert gentle.final(written) == "zxq, my words"
    assert winning.final(written) == "a zxq"


def test_the_key_decides_which_template_comes(picture):
    captioning = Captioning("zxq", templates=("a {trigger}", "b {trigger}"))
    bare = picture(1, caption=None)
    drawn = [captioning.varied(bare, captioning.final(bare), f"1/{step}/0") for step in range(30)]
    assert set(drawn) == {"a zxq", "b zxq"}
    assert drawn == [captioning.varied(bare, captioning.final(bare), f"1/{step}/0") for step in range(30)]


def test_without_chance_a_caption_stays_whole(picture):
    captioning = Captioning("zxq", shuffle_tags=True, tag_dropout=0.5, caption_dropout=0.5).steady()
    tagged = picture(1, caption="zxq, a, b, c, d")
    assert {captioning.varied(tagged, captioning.final(tagged), str(step)) for step in range(20)} == {"zxq, a, b, c, d"}


def drawn(captioning, caption, times=60):
    made = Picture(Path("a.png"), 64, 64, caption, 1, "0" * 64)
    return [captioning.varied(made, captioning.final(made), f"1/{step}/0") for step in range(times)]


def test_lines_of_a_caption_come_by_turns_and_the_key_decides():
    captioning = Captioning("zxq")
    assert set(drawn(captioning, "a dog\na zxq asleep")) == {"zxq, a dog", "a zxq asleep"}
    assert drawn(captioning, "a dog\na zxq asleep") == drawn(captioning, "a dog\na zxq asleep")


def test_choices_come_by_turns_and_within_the_tags_that_are_varied():
    captioning = Captioning("zxq", shuffle_tags=True, keep_tags=1)
    assert set(drawn(captioning, "zxq, {red|blue} hat")) == {"zxq, red hat", "zxq, blue hat"}


def test_every_caption_that_may_come_is_known(picture):
    captioning = Captioning("zxq")
    text = "a {red|blue} dog\nzxq [asleep:awake:0.5]"
    assert set(drawn(captioning, text, 200)) == set(captioning.every(picture(1, caption=text)))


def test_a_caption_without_signs_is_read_by_the_letter():
    assert set(drawn(Captioning("zxq"), "a  zxq ,dog;  x")) == {"a  zxq ,dog;  x"}


def test_places_for_the_words_are_filled_in_captions_too(picture):
    captioning = Captioning("zxq", "dog")
    assert captioning.final(picture(1, caption="a {trigger} {class}, asleep")) == "a zxq dog, asleep"
    assert captioning.of_class(picture(1, caption="a {class}, asleep")) == "a dog, asleep"


def test_lines_of_a_class_pictures_caption_come_by_turns(picture):
    plan = Plan([picture(1)], [picture(2, caption="a dog\na {brown|black} cat")], captioning=Captioning("zxq"))
    steps = [[item.caption for item in plan.items(step) if item.prior] for step in range(60)]
    assert {caption for (caption,) in steps} == {"a dog", "a brown cat", "a black cat"}
    assert steps == [[item.caption for item in plan.items(step) if item.prior] for step in range(60)]


FILEWORDS = "a photo of [name], [filewords]"


@pytest.mark.parametrize("template", [FILEWORDS, "a photo of {trigger}, {caption}"])
@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("red hat", "a photo of zxq, red hat"),
        (None, "a photo of zxq"),
        ("", "a photo of zxq"),
        ("(red:1.2) hat", "a photo of zxq, red hat"),
    ],
)
def test_filewords_is_the_pictures_own_caption_in_any_template(picture, template, caption, expected):
    made = picture(1, caption=caption)
    assert Captioning("zxq", template=template).final(made) == expected
    assert Captioning("zxq", templates=(template,), templates_win=True).final(made) == expected


def test_filewords_follow_the_lines_of_the_caption():
    captioning = Captioning("zxq", templates=(FILEWORDS, "{trigger}"), templates_win=True)
    assert set(drawn(captioning, "a\nb")) == {"a photo of zxq, a", "a photo of zxq, b", "zxq"}


def test_a_template_of_filewords_alone_gets_the_word_in_front():
    assert set(drawn(Captioning("zxq", templates=("a photo of a [filewords]",), templates_win=True), "hat")) == {"zxq, a photo of a hat"}


def test_words_of_a_folder_stand_in_the_place_of_the_name(picture):
    assert Captioning(template=FILEWORDS).final(picture(1, caption="red hat", folder_words="sks dog")) == "a photo of sks dog, red hat"


def test_class_pictures_get_their_own_words_too(picture):
    assert Captioning("zxq", "dog", "a {class}, [filewords]").of_class(picture(1, caption="brown")) == "a dog, brown"


@pytest.mark.parametrize(
    ("templates", "line"),
    [
        (("a {trigger}",), "The templates replace the captions of 1 of 2 images."),
        (("a {trigger}", FILEWORDS), "Templates without [filewords] replace the captions of 1 of 2"),
        ((FILEWORDS,), "The template surrounds the captions of 1 of 2"),
    ],
)
def test_what_becomes_of_captions_beside_templates_is_said(picture, templates, line):
    pictures = [picture(1, caption="hat"), picture(2, caption=None)]
    said = lines(Plan(pictures, captioning=Captioning("zxq", templates=templates, templates_win=True)))
    assert any(entry.startswith(line) for entry in said)
    gentle = lines(Plan(pictures, captioning=Captioning("zxq", templates=templates)))
    assert not any("captions of 1 of 2" in entry and "trigger" not in entry for entry in gentle)


def test_a_caption_template_with_filewords_is_said_too(picture):
    pictures = [picture(1, caption="hat"), picture(2, caption="x")]
    assert any(
        "surrounds the captions of 2 of 2" in line for line in lines(Plan(pictures, captioning=Captioning("zxq", template=FILEWORDS)))
    )
