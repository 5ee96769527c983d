"""The training images, which follow the form."""

from tests.fakes.form import form_values

NOTHING = {"__type__": "generic_update"}


def test_the_images_follow_the_form(tab, images):
    summary, shown, asks, _ = tab.gallery.look({}, *form_values(images=str(images), kind="person"))
    assert "3 images" in summary and shown.count("<figure") == 3 and asks["visible"]
    assert not tab.gallery.look({}, *form_values(images=str(images), kind="thing"))[2]["visible"]
    assert tab.gallery.look({}, *form_values(images="/nowhere"))[0].startswith('<div class="finetune-problems"')
    assert tab.gallery.look({}, *form_values())[0] == ""


def test_other_settings_in_the_form_show_their_own_images_once(tab, images):
    page, values = {"filled": True}, form_values(images=str(images))
    assert "3 images" in tab.gallery.look_if_filled(page, *values)[0] and "filled" not in page
    assert tab.gallery.look_if_filled(page, *values) == (NOTHING,) * 4


def test_captions_need_something_that_writes_them(tab, images):
    assert "Captions can be written" in tab.gallery.write_captions("", *form_values(images=str(images)))
    choices, button = tab.gallery.captioners()
    assert (choices["visible"], button["visible"]) == (False, False)


def test_the_trigger_word_is_drawn_where_there_is_one(tab, services, images, monkeypatch):
    monkeypatch.setattr(services.jobs._worker, "start", lambda: None)
    assert "there is no word to draw" in tab.gallery.draw_trigger_word(*form_values(images=str(images)))
    assert "draws the trigger word" in tab.gallery.draw_trigger_word(*form_values(images=str(images), trigger="zxq"))
    assert len(services.jobs.tasks.all()) == 1


def test_images_that_have_not_changed_are_not_sent_again(tab, images):
    page, values = {}, form_values(images=str(images))
    assert "<figure" in tab.gallery.look(page, *values)[1] and tab.gallery.look(page, *values)[1] == NOTHING


def test_the_figures_follow_resolution_steps_and_batch(tab, images):
    page = {}
    for changed, told in (
        ({}, "512×512"),
        ({"data_resolution": "128"}, "128×128"),
        ({"training_steps": "7"}, "7 steps"),
        ({"training_batch": 3}, "of 3 images"),
    ):
        assert told in tab.gallery.look(page, *form_values(images=str(images), **changed))[1]
