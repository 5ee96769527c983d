"""Presets, and settings as a file."""

import json
from pathlib import Path

from tests.fakes.form import form_values, place_of


def test_a_preset_is_saved_used_and_deleted(tab):
    names, message = tab.presets.save("mine", *form_values(network_rank="9", name="cat"))
    assert "Saved as mine." in message and names["choices"][-1] == "mine"
    message, *filled = tab.presets.use("mine", *form_values(name="dog"))
    restored = tab.settings.settings(tuple(filled))
    assert "Preset mine is in the form." in message and (restored.network.rank, restored.name) == (9, "dog")
    names, message = tab.presets.delete("mine")
    assert "mine is deleted." in message and "mine" not in names["choices"]


def test_what_cannot_be_done_with_a_preset_is_said(tab):
    message, *components = tab.presets.use("none such", *form_values())
    assert "none such" in message and not any(isinstance(part, str) for part in components)
    assert "Choose another name" in tab.presets.save("for a person", *form_values())[1]
    assert "comes with Finetune and stays" in tab.presets.delete("for a person")[1]


def test_all_to_defaults_leaves_the_first_screen(tab):
    message, *filled = tab.presets.reset(*form_values(network_rank="9", name="cat"))
    assert "at their defaults" in message and filled == form_values(name="cat") and filled[place_of("name")] == "cat"


def test_the_form_is_exported_as_a_file(tab):
    file, message = tab.presets.export(*form_values(network_rank="9"))
    assert message == "" and file["visible"]
    assert json.loads(Path(file["value"]).read_text(encoding="utf-8"))["network"]["rank"] == 9
    file, message = tab.presets.export(*form_values(network_rank="nine"))
    assert "nine" in message and "value" not in file
