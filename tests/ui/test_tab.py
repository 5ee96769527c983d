"""The tab as a whole."""

import pytest

from tests.fakes.form import form_values

gr = pytest.importorskip("gradio", reason="gradio belongs to the WebUI's library set")


def test_the_panels_are_there_when_a_library_is_missing():
    from lib_finetune.ui.tab import Tab

    def broken():
        raise ImportError("No module named 'peft'")

    tab = Tab(broken, lambda: ["peft is missing. Add it with: pip install --no-deps peft==0.13.2"])
    tab.build()
    assert "peft" in tab.refresh.poll({})[0] and "pip install" in tab.start.train({}, *form_values())
    assert tab.settings.untouched_and_last() == "" and tab.storage.measure().startswith('<div class="finetune-problems"')
    for updates in (tab.job.unfinished(), tab.gallery.captioners()):
        assert [update["visible"] for update in updates] == [False, False]
    assert all("peft" in html for html in tab.library.html().values()) and "peft" in tab.tools.html({})
    nothing = {"__type__": "generic_update"}
    assert tab.presets.names() == nothing == tab.methods.render_cards({}, "", *form_values())


def test_each_button_and_field_has_its_own_id_and_stays_out_of_the_webuis_settings(tab):
    blocks = tab.build()
    shown = [
        block
        for block in blocks.blocks.values()
        if isinstance(block, (gr.Button, gr.Textbox, gr.Dropdown, gr.Radio, gr.Checkbox, gr.Slider))
    ]
    ids = [block.elem_id for block in shown]
    assert len(set(ids)) == len(ids) > 100 and all(name.startswith("finetune_") for name in ids)
    assert [block.elem_id for block in shown if not getattr(block, "do_not_save_to_config", False)] == []


def test_every_button_does_something(tab):
    blocks = tab.build()
    pressed = {target for event in blocks.dependencies for target in event["targets"]}
    buttons = {number: block.elem_id for number, block in blocks.blocks.items() if isinstance(block, gr.Button)}
    assert len(buttons) > 20 and [name for number, name in buttons.items() if number not in pressed] == []


def test_no_event_waits_in_gradios_queue(tab):
    assert {event["queue"] for event in tab.build().dependencies if event["backend_fn"]} == {False}


def test_the_tab_has_five_places(tab):
    blocks = tab.build().blocks.values()
    assert [block.label for block in blocks if isinstance(block, gr.Tab)] == ["Train", "Runs", "Compare", "Library", "Tools"]


def test_the_tab_weighs_no_more_on_the_start_of_the_webui_than_before_it_had_places(tab):
    blocks = tab.build()
    assert len(blocks.blocks) <= 189 and len(blocks.dependencies) <= 145
