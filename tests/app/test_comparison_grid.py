"""Sheets of results: what the host is asked for, and how they are put together."""

from pathlib import Path

from lib_finetune.app import comparison_grid
from lib_finetune.app.comparison_grid import Column, Look, Row
from tests.fakes.host import FakeHost
from tests.fakes.runs import settings

LOOK = Look(64, 5)


def test_a_lora_has_a_column_for_each_weight_and_an_embedding_one(tmp_path):
    lora = comparison_grid.columns_of(settings(tmp_path), "step 4", {"lora": Path("a.safetensors")}, (0.6, 1.0))
    assert [(column.label, column.weight) for column in lora] == [("step 4 × 0.6", 0.6), ("step 4 × 1", 1.0)]
    word = comparison_grid.columns_of(
        settings(tmp_path, {"method": "textual_inversion"}), "x", {"embedding": Path("zxq-cat.pt")}, (0.6, 1.0)
    )
    assert [(column.label, column.word) for column in word] == [("x", "zxq-cat")]


def test_the_word_of_an_embedding_takes_the_place_of_the_trigger():
    column = Column("x", {"embedding": Path("my-cat.pt")}, "my-cat")
    assert comparison_grid.request(column, Row("a photo of zxq cat", 3), LOOK, "zxq").prompt == "a photo of my-cat cat"
    assert comparison_grid.request(column, Row("a photo of a cat", 3), LOOK, "zxq").prompt == "my-cat, a photo of a cat"
    assert comparison_grid.request(Column("base", {}), Row("a photo of zxq cat", 3), LOOK, "zxq").prompt == "a photo of zxq cat"


def test_files_reach_the_host_in_their_own_way():
    lora = comparison_grid.request(Column("l", {"lora": Path("a")}, weight=0.6), Row("p", 1), LOOK, "")
    model = comparison_grid.request(Column("c", {"checkpoint": Path("b")}), Row("p", 1), LOOK, "")
    assert lora.loras == ((Path("a"), 0.6),) and lora.checkpoint is None
    assert model.checkpoint == Path("b") and not model.loras and (model.width_px, model.steps) == (64, 5)


def test_prompts_are_filled_in_and_default_to_the_template(tmp_path):
    given = settings(tmp_path)
    assert comparison_grid.prompts_of(given, ["{trigger} on a beach", " "]) == ["zxq on a beach"]
    assert comparison_grid.prompts_of(given, []) == ["a photo of zxq cat"]


def test_a_sheet_has_all_pictures_and_stops_when_asked(tmp_path):
    host, told = FakeHost(tmp_path), []
    columns, rows = [Column("base", {}), Column("two", {"lora": Path("a")})], [Row("p", 1), Row("q", 2), Row("p", 3)]
    image = comparison_grid.make(host.pictures, columns, rows, LOOK, "", lambda done, total: told.append((done, total)), lambda: False)
    assert told == [(n, 6) for n in range(1, 7)] and image.width == 128
    assert [request.seed for request in host.asked] == [1, 2, 3, 1, 2, 3]
    assert comparison_grid.make(host.pictures, columns, rows, LOOK, "", lambda *_: None, lambda: len(host.asked) > 7) is None


def test_long_labels_go_on_in_the_next_line(tmp_path):
    from PIL import Image

    from lib_finetune.export.picture import grid

    rows = [[Image.new("RGB", (64, 64), "red")] * 2]
    short, long = grid(rows, ["a", "b"], ["p"]), grid(rows, ["a", "my-cat-lora · 37.0 MB, 8 min, 3.1 GiB"], ["p"])
    assert long.width == short.width == 128 and long.height > short.height
    assert long.getpixel((10, long.height - 1)) == (255, 0, 0)
