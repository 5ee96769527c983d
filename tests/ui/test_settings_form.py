"""The form that holds all settings."""

import html
import json
import re

from lib_finetune.config import codec
from lib_finetune.config.settings import Settings
from lib_finetune.ui.page_state import PageChange
from tests.fakes.form import form_values
from tests.fakes.runs import settings


def test_every_setting_is_on_the_first_screen_or_in_a_section(tab):
    from lib_finetune.ui.form import ON_TOP

    assert set(tab.settings.paths) | set(ON_TOP) | {"method"} == set(codec.all_leaves())
    assert len(tab.settings.components) == len(codec.all_leaves()) == len(set(map(id, tab.settings.components)))


def test_the_form_gives_back_the_settings_that_it_was_filled_with(tab):
    changes = {"data.drawn": "true", "data.kind": "person", "training.steps": "7", "embedding.rate": "0.001", "data.flip": "true"}
    changed = codec.with_values(Settings(), changes.items())
    assert tab.settings.settings(tuple(tab.settings.shown(changed))) == changed


def test_what_was_trained_last_is_restored_without_its_name(tab, services):
    services.settings_files.keep_last(settings(services.host.paths.data, {"network.rank": "3"}))
    untouched, last = json.loads(tab.settings.untouched_and_last())
    assert untouched == tab.settings.shown(Settings())
    restored = tab.settings.settings(tuple(last))
    assert restored.network.rank == 3 and restored.name == "" and restored.data.trigger == "zxq"


def test_what_does_not_apply_is_hidden(tab):
    assert "finetune_network_conv_alpha" in tab.settings.facts(form_values())["off"]
    assert "finetune_network_conv_alpha" not in tab.settings.facts(form_values(network_conv_rank=4))["off"]
    of_word = tab.settings.facts(form_values(method="textual_inversion"))["off"]
    assert "finetune_network_rank" in of_word and "finetune_embedding_vectors" not in of_word


def test_what_cannot_be_read_hides_nothing_and_is_said_at_its_field(tab):
    facts = tab.settings.facts(form_values(training_steps="many", optimizer_unet_rate="fast"))
    assert facts["off"] is None and set(facts["problems"]) == {"finetune_training_steps", "finetune_optimizer_unet_rate"}
    assert "many" in facts["problems"]["finetune_training_steps"]


def test_a_value_out_of_its_range_is_said_at_its_field(tab):
    facts = tab.settings.facts(form_values(data_resolution="5"))
    assert list(facts["problems"]) == ["finetune_data_resolution"] and facts["off"] is not None


def test_an_empty_field_tells_what_it_stands_for(tab, images):
    checked = tab.gallery.look({}, *form_values(images=str(images)))[3]
    facts = json.loads(html.unescape(re.search('data-checked="([^"]*)"', checked)[1]))
    assert facts["auto"]["finetune_training_steps"] == "500" and facts["auto"]["finetune_optimizer_unet_rate"] == "0.0002"
    without = json.loads(html.unescape(re.search('data-checked="([^"]*)"', tab.gallery.look({}, *form_values())[3])[1]))
    assert "finetune_training_steps" not in without["auto"] and without["auto"]["finetune_optimizer_unet_rate"] == "0.0002"


def test_a_change_without_settings_leaves_the_form(tab):
    message, *components = tab.settings.filled(tuple(form_values()), lambda: PageChange("<done>"))
    assert "&lt;done&gt;" in message and len(components) == len(form_values())
    assert all(update == {"__type__": "generic_update"} for update in components)


def test_a_change_that_fails_leaves_the_form_and_says_why(tab):
    def refuse() -> PageChange:
        return PageChange(settings=tab.settings.settings(tuple(form_values(training_steps="many"))))

    message, *components = tab.settings.filled(tuple(form_values()), refuse)
    assert "Steps: " in message and all(update == {"__type__": "generic_update"} for update in components)
