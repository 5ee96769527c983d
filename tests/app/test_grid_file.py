"""A comparison grid on disk: its parameters as the WebUI reads them, and the settings that make it anew."""

import dataclasses
import json

import pytest
from PIL import Image

from lib_finetune.app import grid_file
from lib_finetune.app.grid_file import GridSettings
from lib_finetune.app.grid_images import Column, Look, Row
from lib_finetune.export.label_font import Font, drawable, font_for, wrapped
from lib_finetune.export.picture import grid, write_png

SETTINGS = GridSettings(
    ("run:20",), (0.5, 1.0), (1,), ("a 猫 on a beach",), True, (("base", ()), ("cat × 1", ("colour drift 2",))), (("p", 1),)
)


def test_a_grid_keeps_the_settings_that_made_it(tmp_path):
    path = tmp_path / "a.png"
    grid_file.write(path, Image.new("RGB", (8, 8)), SETTINGS, "a 猫\nSteps: 5")
    assert grid_file.settings_in(path) == json.loads(json.dumps(dataclasses.asdict(SETTINGS)))
    assert Image.open(path).info["parameters"] == "a 猫\nSteps: 5"


def test_parameters_are_written_as_the_webui_writes_them():
    columns, rows = [Column("base", {}, clip_skip=2), Column("cat × 0.6", {})], [Row("a cat, asleep", 7)]
    prompt, facts = grid_file.parameters_of(columns, rows, Look(512, 20), "a cat, asleep", "v1-5").split("\n")
    assert prompt == "a cat, asleep"
    assert facts.startswith(
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 7, Size: 512x512, Model: v1-5, Clip skip: 2, "
    )
    assert facts.endswith('X Values: "base, cat × 0.6", Y Values: "a cat, asleep (seed 7)"')


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"columns": [1]}', json.dumps({**dataclasses.asdict(SETTINGS), "rows": [[1]]})])
def test_what_somebody_changed_has_no_settings(tmp_path, text):
    write_png(tmp_path / "a.png", Image.new("RGB", (8, 8)), {"finetune_grid": text})
    assert grid_file.settings_in(tmp_path / "a.png") == {}
    (tmp_path / "b.png").write_text("no image")
    assert grid_file.settings_in(tmp_path / "b.png") == grid_file.settings_in(tmp_path / "none.png") == {}


def test_labels_may_have_any_characters():
    image = grid([[Image.new("RGB", (64, 64), "red")]], ["一只猫 – é"], ["在海滩上的一只猫"], ["colour drift 2"])
    assert image.width == 64 and image.height > 64 + 3 * 11


def test_a_system_without_fonts_draws_what_pillow_can(monkeypatch):
    monkeypatch.setattr("lib_finetune.export.label_font._font", lambda *_: None)
    font: Font = font_for(["猫"], 20)
    assert grid([[Image.new("RGB", (64, 64))]], ["猫 –"], ["p"]).width == 64
    assert drawable("é 猫", font) in ("é ?", "é 猫")  # newer versions of Pillow bring a font with more characters


def test_a_label_is_wrapped_by_its_width():
    font = font_for(["a"], 12)
    lines = wrapped("one two three " + "x" * 60, font, 60)
    assert len(lines) > 4 and all(font.getlength(line) <= 60 for line in lines) and "".join(lines).count("x") == 60
