"""The methods side by side, which follow the form."""

from tests.fakes.form import form_values


def test_the_cards_follow_the_form(tab, images):
    html = tab.methods.render_cards({}, "a small file", *form_values(images=str(images), kind="thing"))
    assert "Textual Inversion ★" in html and "3 images of a thing, a small file" in html


def test_cards_of_settings_that_cannot_be_read_stay_as_they_are(tab):
    assert tab.methods.render_cards({}, "", *form_values(images="/nowhere")) == {"__type__": "generic_update"}
