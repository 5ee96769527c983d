"""The caption of a picture before and after a step varies it."""

from lib_finetune.data.captioning import Captioning


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
    from pathlib import Path

    from lib_finetune.data.scan import Picture

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
    from lib_finetune.data.plan import Plan

    plan = Plan([picture(1)], [picture(2, caption="a dog\na {brown|black} cat")], captioning=Captioning("zxq"))
    steps = [[item.caption for item in plan.items(step) if item.prior] for step in range(60)]
    assert {caption for (caption,) in steps} == {"a dog", "a brown cat", "a black cat"}
    assert steps == [[item.caption for item in plan.items(step) if item.prior] for step in range(60)]
