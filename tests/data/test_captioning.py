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
