"""The page's own buttons, and what they put into the form."""

import json

import pytest

from tests.fakes.form import form_values, place_of


@pytest.fixture
def press(tab):
    """Presses a button; returns the message and the form's components."""

    def do(name, page=None, **arguments):
        return tab.page_buttons.act(json.dumps({"do": name, "given": arguments}), {} if page is None else page, *form_values())

    return do


def test_actions_are_done_or_refused_in_words(tab, services, press, waiting):
    job = waiting("dog")
    assert "dog-2 waits" in press("clone", job=job.folder.name)[0]
    assert press("cancel", job=job.folder.name)[0] == "" and job.state == "discarded"
    assert "no job" in press("cancel", job="nobody")[0] and "does not know" in press("fly")[0]
    filled = press("again", job=job.folder.name)[1:]
    assert tab.settings.settings(tuple(filled)).data.trigger == "zxq"
    assert len(press("default", path="network.rank")) == 1 + len(form_values())


@pytest.mark.parametrize("asked", ["{", "[]", "5", "{}", '{"do": "pause", "given": 5}', ""])
def test_what_cannot_be_read_is_refused_in_words(tab, asked):
    assert "cannot be read" in tab.page_buttons.act(asked, {}, *form_values())[0]


def test_other_settings_in_the_form_show_their_own_images(tab, press, waiting):
    page = {}
    filled = press("edit", page, job=waiting("own").folder.name)[1:]
    assert "3 images" in tab.gallery.look_if_filled(page, *filled)[0] and "filled" not in page


def test_a_job_that_is_edited_can_get_another_name(tab, services, press, waiting):
    first, second = waiting("first"), waiting("second")
    page, name = {}, place_of("name")
    filled = press("edit", page, job=first.folder.name)[1:]
    assert "running or waits already" in tab.start.train(page, *filled[:name], "second", *filled[name + 1 :])
    message = tab.start.train(page, *filled[:name], "renamed", *filled[name + 1 :])
    assert "renamed waits with its new settings" in message and page["editing"] == ""
    assert [job.settings.name for job in services.jobs.known.waiting()] == ["renamed", "second"] and services.jobs.known.waiting()[
        0
    ] is first
    assert second.settings.name == "second"


def test_after_a_button_the_form_the_images_and_the_methods_are_shown_anew(tab):
    blocks = tab.build()
    shown = {block.elem_id: number for number, block in blocks.blocks.items() if getattr(block, "elem_id", None)}
    events = blocks.dependencies
    chain = [number for number, event in enumerate(events) if event["targets"] == [shown["finetune_act"]]]
    for number in chain:  # grows while it is walked
        chain += [later for later, event in enumerate(events) if event["trigger_after"] == number]
    changed = {output for number in chain for output in events[number]["outputs"]}
    assert {shown["finetune_gallery"], shown["finetune_cards"], shown["finetune_method"]} <= changed
