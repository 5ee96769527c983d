"""The form that holds all settings."""

import json

from lib_finetune.config import codec
from lib_finetune.config.settings import Settings
from lib_finetune.ui.page_state import PageChange
from tests.fakes.form import form_values
from tests.fakes.runs import settings


def test_every_setting_is_on_the_first_screen_or_under_more(tab):
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
    from lib_finetune.ui import form

    names = form.conditional(tab.settings.paths)
    hidden = dict(zip(names, tab.settings.applying(*form_values()), strict=True))
    shown = dict(zip(names, tab.settings.applying(*form_values(network_conv_rank="4")), strict=True))
    assert hidden["network.conv_alpha"]["visible"] is False and shown["network.conv_alpha"]["visible"] is True


def test_what_cannot_be_read_hides_and_shows_nothing(tab):
    updates = tab.settings.applying(*form_values(training_steps="many"))
    assert updates and all("visible" not in update for update in updates)


def test_a_change_without_settings_leaves_the_form(tab):
    message, *components = tab.settings.filled(tuple(form_values()), lambda: PageChange("<done>"))
    assert "&lt;done&gt;" in message and len(components) == len(form_values())
    assert all(update == {"__type__": "generic_update"} for update in components)


def test_a_change_that_fails_leaves_the_form_and_says_why(tab):
    def refuse() -> PageChange:
        return PageChange(settings=tab.settings.settings(tuple(form_values(training_steps="many"))))

    message, *components = tab.settings.filled(tuple(form_values()), refuse)
    assert "Steps: " in message and all(update == {"__type__": "generic_update"} for update in components)
