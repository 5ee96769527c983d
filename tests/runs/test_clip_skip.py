"""Use sees what training saw: every image that a run, a grid or a trial of the word asks for is read at the clip skip of the training."""

import json
import time

import pytest

from lib_finetune.app.comparison_grid import ComparisonGrids
from lib_finetune.app.grid_file import GridSettings
from lib_finetune.app.grid_images import Column, Look, Row, columns_of
from lib_finetune.export.clip_skip import clip_skip_of
from lib_finetune.host.headless.pictures import HeadlessPictures
from lib_finetune.jobs.queue import Jobs
from lib_finetune.ports.pictures import PictureRequest
from lib_finetune.runs.class_images import ClassPictures
from tests.fakes.host import FakeHost
from tests.fakes.runs import Bench, metadata, settings

EVERY_PICTURE = {"preview.enabled": "true", "preview.every": "2", "preview.watch": "on", "preview.steps": "2"}
CLASSES = {"data.class_count": "2", "objective.prior": "pictures"}
METHODS = {
    "lora": CLASSES,
    "pivotal_tuning": {**CLASSES, "name": "zxqcat"},
    "textual_inversion": {"name": "zxqcat"},
    "dreambooth": {**CLASSES, "data.trigger": "sks"},
}


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.mark.parametrize("method", METHODS)
def test_previews_watch_and_class_images_are_painted_at_the_clip_skip_of_the_training(bench, method):
    result, told, host = bench.run({**EVERY_PICTURE, **METHODS[method], "method": method, "training.clip_skip": "2"})
    assert len(host.asked) >= 3 and {request.clip_skip for request in host.asked} == {2}
    stored = metadata(result.file)
    assert stored["ss_clip_skip"] == "2" and stored["modelspec.usage_hint"] == "Set clip skip to 2, as in training."
    assert json.loads(result.file.with_suffix(".json").read_text())["notes"] == "Set clip skip to 2, as in training."
    assert "Set clip skip to 2, as in training." in told.lines and clip_skip_of([result.file]) == 2


def test_an_automatic_clip_skip_stays_that_of_the_training_when_the_host_is_set_anew(bench):
    host = bench.host()
    tools = host.text_tools()
    host.text_tools = lambda: type(tools)(tools.tokenizer, tools.heads, 2)
    result, _, _ = bench.run({**EVERY_PICTURE, **CLASSES}, host=host)
    assert {request.clip_skip for request in host.asked} == {2}
    columns = columns_of(settings(bench.images), "cat", {"lora": result.file}, (0.5, 1.0))
    assert [column.clip_skip for column in columns] == [2, 2]


def test_a_grid_and_a_trial_of_the_word_are_painted_so_too(bench, tmp_path):
    result, _, _ = bench.run({"training.clip_skip": "2"})
    host = FakeHost(tmp_path / "grid")
    jobs = Jobs(host)
    grids = ComparisonGrids(jobs)
    columns = [Column("base", {}), *columns_of(settings(bench.images), "cat", {"lora": result.file}, (1.0,))]
    task = grids._task("cat", columns, [Row("zxq", 1)], Look(64, 5), GridSettings(), [])
    word = grids.of_trigger_word(settings(bench.images, {"training.clip_skip": "2"}))
    while not (task.ended and word.ended):
        time.sleep(0.02)
    assert {request.clip_skip for request in host.asked if request.loras} == {2}
    assert {request.clip_skip for request in host.asked if request.prompt == "zxq cat"} == {2}


def test_the_headless_host_reads_the_layer_that_is_asked_for(tmp_path):
    host = FakeHost(tmp_path)
    first, second, own = (
        HeadlessPictures.make_batch(host.pictures, PictureRequest("a cat", width_px=64, height_px=64, steps=2, clip_skip=skip), 1)[
            0
        ].tobytes()
        for skip in (1, 2, None)
    )
    assert first != second and own == first


@pytest.mark.parametrize("what", ["negative_prompt", "steps", "guidance", "clip_skip", "width_px", "height_px", "prompt"])
def test_what_a_picture_depends_on_is_in_the_key_that_it_is_kept_under(what):
    import dataclasses

    request = PictureRequest("a cat", clip_skip=1)
    other = {"negative_prompt": "blurred", "guidance": 3.0, "prompt": "a dog"}.get(what, 2)
    assert dataclasses.replace(request, **{what: other}).look() != request.look()
    assert dataclasses.replace(request, seed=9).look() == request.look()


def test_class_images_of_another_clip_skip_or_prediction_lie_in_another_folder(bench):
    import dataclasses

    host = bench.host()
    info = host.checkpoint()
    folders = {
        ClassPictures(host.pictures, host.paths.data, info, "a photo of cat", 64, 1).folder,
        ClassPictures(host.pictures, host.paths.data, info, "a photo of cat", 64, 2).folder,
        ClassPictures(host.pictures, host.paths.data, dataclasses.replace(info, prediction="v_prediction"), "a photo of cat", 64, 1).folder,
        ClassPictures(host.pictures, host.paths.data, dataclasses.replace(info, sha256=None), "a photo of cat", 64, 1).folder,
        ClassPictures(
            host.pictures, host.paths.data, dataclasses.replace(info, sha256=None, short_hash="cd"), "a photo of cat", 64, 1
        ).folder,
    }
    assert len(folders) == 5


def test_a_run_that_goes_on_with_other_preview_settings_paints_its_base_anew(bench):
    from tests.fakes.host import Recorder

    changes = {**EVERY_PICTURE, "preview.watch": "off", "training.steps": "6"}
    stopped, _, host = bench.run(changes, recorder=Recorder(stop_at=2))
    stopped.file.unlink()
    painted = len(host.asked)
    _, told, _ = bench.run({**changes, "preview.prompts": "zxq in the snow"}, host=host)
    assert [request.prompt for request in host.asked[painted:]] == ["zxq in the snow"] * 3
    assert {row.step: row.prompts for row in told.rows}[0] == ("zxq in the snow",)
