"""Sheets of results: what the host is asked for, and how they are put together."""

from pathlib import Path

import pytest

from lib_finetune.app import grid_images
from lib_finetune.app.comparison_grid import ComparisonGrids
from lib_finetune.app.grid_images import Column, Look, Row
from lib_finetune.errors import InputError
from lib_finetune.jobs.queue import Jobs
from tests.fakes.host import FakeHost
from tests.fakes.runs import Bench, settings

LOOK = Look(64, 5)


def test_a_lora_has_a_column_for_each_weight_and_an_embedding_one(tmp_path):
    lora = grid_images.columns_of(settings(tmp_path), "step 4", {"lora": Path("a.safetensors")}, (0.6, 1.0))
    assert [(column.label, column.weight) for column in lora] == [("step 4 × 0.6", 0.6), ("step 4 × 1", 1.0)]
    word = grid_images.columns_of(settings(tmp_path, {"method": "textual_inversion"}), "x", {"embedding": Path("zxq-cat.pt")}, (0.6, 1.0))
    assert [(column.label, column.word) for column in word] == [("x", "zxq-cat")]


def test_the_word_of_an_embedding_takes_the_place_of_the_trigger():
    column = Column("x", {"embedding": Path("my-cat.pt")}, "my-cat")
    assert grid_images.request(column, Row("a photo of zxq cat", 3), LOOK, "zxq").prompt == "a photo of my-cat cat"
    assert grid_images.request(column, Row("a photo of a cat", 3), LOOK, "zxq").prompt == "my-cat, a photo of a cat"
    assert grid_images.request(Column("base", {}), Row("a photo of zxq cat", 3), LOOK, "zxq").prompt == "a photo of zxq cat"


def test_files_reach_the_host_in_their_own_way():
    lora = grid_images.request(Column("l", {"lora": Path("a")}, weight=0.6), Row("p", 1), LOOK, "")
    model = grid_images.request(Column("c", {"checkpoint": Path("b")}), Row("p", 1), LOOK, "")
    assert lora.loras == ((Path("a"), 0.6),) and lora.checkpoint is None
    assert model.checkpoint == Path("b") and not model.loras and (model.width_px, model.steps) == (64, 5)


def test_prompts_are_filled_in_and_default_to_the_template(tmp_path):
    given = settings(tmp_path)
    assert grid_images.prompts_of(given, ["{trigger} on a beach", " "]) == ["zxq on a beach"]
    assert grid_images.prompts_of(given, []) == ["a photo of zxq cat"]


def test_a_sheet_has_all_pictures_and_stops_when_asked(tmp_path):
    host, told = FakeHost(tmp_path), []
    columns, rows = [Column("base", {}), Column("two", {"lora": Path("a")})], [Row("p", 1), Row("q", 2), Row("p", 3)]
    image = grid_images.make(host.pictures, columns, rows, LOOK, "", lambda done, total: told.append((done, total)), lambda: False)
    assert told == [(n, 6) for n in range(1, 7)] and image.width == 128
    assert [request.seed for request in host.asked] == [1, 2, 3, 1, 2, 3]
    assert grid_images.make(host.pictures, columns, rows, LOOK, "", lambda *_: None, lambda: len(host.asked) > 7) is None


def test_long_labels_go_on_in_the_next_line(tmp_path):
    from PIL import Image

    from lib_finetune.export.picture import grid

    rows = [[Image.new("RGB", (64, 64), "red")] * 2]
    short, long = grid(rows, ["a", "b"], ["p"]), grid(rows, ["a", "my-cat-lora · 37.0 MB, 8 min, 3.1 GiB"], ["p"])
    assert long.width == short.width == 128 and long.height > short.height
    assert long.getpixel((10, long.height - 1)) == (255, 0, 0)


@pytest.fixture
def grids(tmp_path, monkeypatch):
    """The service over two trainings with files: "cat" with a snapshot, and "dog" with a word of its own."""
    host = Bench(tmp_path).host()
    jobs = Jobs(host)
    monkeypatch.setattr(jobs._worker, "start", lambda: None)
    for name, trigger, step in (("cat", "zxq", 4), ("dog", "sks", 8)):
        job = jobs.submit(settings(tmp_path / "pictures", {"name": name, "data.trigger": trigger}))
        files = {at: host.paths.lora / f"{name}{end}.safetensors" for at, end in ((2, "-000002"), (step, ""))}
        for path in files.values():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        job.state = "done"
        job.keep_snapshots({2: {"lora": files[2]}})
        job.record.steps, job.record.files = step, {"lora": str(files[step])}
        job.progress.figures = {"validation": {2: 0.25, 4: 0.125}, "colour drift": {2: 1.5}, "copying": {2: 0.9}}
    return ComparisonGrids(jobs)


def finished(grids, task):
    """Do the work of a background task here; the path of its grid, the requests of its images."""
    result = task.work(task)
    return grids._host.paths.data / "sheets" / result["sheet"], grids._host.asked


def ids(grids):
    return {run["name"]: run["job"] for run in grids.offered()}


def test_results_and_snapshots_are_offered_newest_first(grids):
    assert [(run["name"], run["steps"], run["result"]) for run in grids.offered()] == [("dog", [2, 8], 8), ("cat", [2, 4], 4)]


def test_results_times_weights_times_prompts_times_seeds(grids):
    known = ids(grids)
    task = grids.of_choices([f"{known['cat']}:2", f"{known['cat']}:4"], [0.5, 1.0], ["{trigger} at sea", "a {class}"], [3, 4])
    path, asked = finished(grids, task)
    assert len(asked) == 5 * 4 and {request.seed for request in asked} == {3, 4}
    about = grids.settings(path.name)
    assert [label for label, _ in about["columns"]] == ["base", "cat, step 2 × 0.5", "cat, step 2 × 1", "cat × 0.5", "cat × 1"]
    assert about["rows"] == [["zxq at sea", 3], ["zxq at sea", 4], ["a cat", 3], ["a cat", 4]]
    assert (about["chosen"], about["weights"], about["prompts"]) == (
        [f"{known['cat']}:2", f"{known['cat']}:4"], [0.5, 1.0], ["{trigger} at sea", "a {class}"]
    )  # fmt: skip


def test_beneath_a_column_stands_what_means_something_on_photographs(grids):
    name = ids(grids)["cat"]
    path, _ = finished(grids, grids.of_choices([f"{name}:2", f"{name}:4"], [1.0], ["p"], [1], base=False))
    assert [figures for _, figures in grids.settings(path.name)["columns"]] == [
        ["validation loss 0.25", "colour drift 1.5"], ["validation loss 0.125", "colour drift 1.5 (at step 2)"]
    ]  # fmt: skip


def test_each_training_is_called_by_its_own_words(grids):
    known = ids(grids)
    path, asked = finished(grids, grids.of_choices([f"{known['cat']}:4", f"{known['dog']}:8"], [1.0], ["a photo of {trigger}"], [1]))
    assert [request.prompt for request in asked] == ["a photo of zxq", "a photo of zxq", "a photo of sks"]
    assert grids.settings(path.name)["rows"] == [["a photo of {trigger}", 1]]


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"chosen": []}, "chosen", "at least one"),
        ({"chosen": ["{cat}:3"]}, "chosen", "no file of step 3"),
        ({"chosen": ["{cat}:²"]}, "chosen", "no file of step"),
        ({"chosen": ["no such run:4"]}, "chosen", "no job"),
        ({"weights": []}, "weights", "none"),
        ({"weights": [0.5, 2.5]}, "weights", "at most 2"),
        ({"weights": [float("nan")]}, "weights", "nan"),
        ({"seeds": [-1]}, "seeds", "-1 is not a seed"),
        ({"seeds": list(range(101))}, "chosen", "at most 200"),
    ],
)
def test_wrong_choices_are_said_at_their_field(grids, change, field, says):
    cat = ids(grids)["cat"]
    asked = {"chosen": ["{cat}:4"], "weights": [1.0], "prompts": ["p"], "seeds": [1], **change}
    asked["chosen"] = [token.replace("{cat}", cat) for token in asked["chosen"]]
    with pytest.raises(InputError) as raised:
        grids.of_choices(**asked)
    assert [problem.field for problem in raised.value.problems] == [field] and says in raised.value.problems[0].message


def test_all_that_is_wrong_is_said_at_once(grids):
    with pytest.raises(InputError) as raised:
        grids.of_choices([], [], [], [-1])
    assert {problem.field for problem in raised.value.problems} == {"chosen", "weights", "seeds"}
