"""Previews on the way: rows of the same prompts and seeds, their index, and training untouched by them."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from lib_finetune.errors import HostError, InputError
from lib_finetune.evaluation import watch
from lib_finetune.host.headless.pictures import HeadlessPictures
from lib_finetune.runs.folder import PREVIEW_CHECKPOINT, RunFolder
from tests.fakes.host import FakeHost, Recorder
from tests.fakes.runs import Bench, same, settings, tensors

SHOWN = {"preview.enabled": "true", "preview.every": "2", "preview.steps": "2"}
WHOLE = {**SHOWN, "method": "dreambooth", "data.trigger": "sks"}
WORD = {**SHOWN, "method": "textual_inversion", "name": "zxqcat"}


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path, pictures=4)


class PaintingHost(FakeHost):
    """Makes its images in earnest, and disturbs every random state as a host may."""

    def paint(self, request, count):
        super().paint(request, count)
        torch.manual_seed(1)
        np.random.seed(1)
        return HeadlessPictures.make_batch(self.pictures, request, count)


def index(host, folder="run"):
    return json.loads(RunFolder(host.paths.data / "runs" / folder).previews_index.read_text())


@pytest.mark.parametrize("changes", [{}, {"method": "textual_inversion", "name": "zxqcat"}, {"method": "dreambooth", "data.trigger": "sks"},
                                     {"method": "pivotal_tuning", "name": "zxqcat", "embedding.bundle": "false"}])  # fmt: skip
def test_training_is_bit_for_bit_what_it_is_without_previews(bench, changes):
    plain = bench.run({**changes, "network.dropout": "0.1"}, host=bench.host("plain"))
    host = PaintingHost(bench.root / "shown")
    shown = bench.run({**SHOWN, **changes, "network.dropout": "0.1", "preview.watch": "on"}, host=host)
    assert [row.step for row in shown[1].rows] == [0, 2, 4] and shown[1].losses == plain[1].losses
    assert same(tensors(plain[0].file), tensors(shown[0].file)) and not shown[0].restoration.differences


def test_every_row_has_the_same_prompts_and_seeds_and_lies_in_the_runs_folder(bench):
    prompts = "a photo of {trigger} {class}; zxq in the snow\nempty sky"
    _, told, host = bench.run({**SHOWN, "preview.prompts": prompts, "preview.count": "2", "preview.seed": "7"})
    assert [row.step for row in told.rows] == [0, 2, 4] and len({row.prompts for row in told.rows}) == 1
    assert told.rows[0].prompts == ("a photo of zxq cat",) * 2 + ("zxq in the snow",) * 2 + ("empty sky",) * 2
    assert all(row.seeds == (7, 8) * 3 for row in told.rows)
    folder = host.paths.data / "runs" / "run"
    assert told.rows[1].files[0] == "previews/000002/00.png" and all((folder / name).is_file() for row in told.rows for name in row.files)
    assert [row["step"] for row in index(host)["rows"]] == [0, 2, 4] and not list(folder.rglob("*.part"))


def test_the_base_has_no_file_and_the_way_uses_the_file_of_its_step(bench):
    _, _, host = bench.run(SHOWN)
    used = [[path.name for path, _ in request.loras] for request in host.asked]
    assert used == [[], ["cat-000002.safetensors"], ["cat.safetensors"]]


def test_a_file_of_the_way_can_be_tried_until_the_next_preview(bench):
    class Looking(Recorder):
        def previewed(self, row):
            super().previewed(row)
            self.lines.append(str(sorted(path.stem for path in host.paths.lora.glob("*.safetensors"))))

    host, told = bench.host(), Looking()
    bench.run({**SHOWN, "training.steps": "6"}, host=host, recorder=told)
    seen = [line for line in told.lines if line.startswith("[")]
    assert seen == ["[]", "['cat-000002']", "['cat-000004']", "['cat', 'cat-000004']"]
    assert [path.name for path in host.removed] == ["cat-000002.safetensors", "cat-000004.safetensors"] and told.kept == []


def test_a_file_that_the_settings_keep_is_used_and_stays(bench):
    _, told, host = bench.run({**SHOWN, "saving.every_steps": "2"})
    assert sorted(path.stem for path in host.paths.lora.glob("*.safetensors")) == ["cat", "cat-000002"]
    assert not host.removed and [step for step, _ in told.kept] == [2]


def test_an_embedding_of_the_way_is_called_by_its_own_name(bench):
    _, told, host = bench.run({**WORD, "preview.prompts": "a photo of {trigger}; zxqcat in the snow"})
    assert [request.prompt for request in host.asked][2:4] == ["a photo of zxqcat-000002", "zxqcat-000002 in the snow"]
    assert told.rows[1].prompts == ("a photo of zxqcat", "zxqcat in the snow")
    assert not host.asked[0].embeddings and host.asked[2].embeddings == (host.paths.embeddings / "zxqcat-000002.safetensors",)


def test_dreambooth_shows_the_weights_as_a_file_would_hold_them_and_leaves_none(bench):
    held = []

    class Reading(FakeHost):
        def paint(self, request, count):
            if request.checkpoint:
                held.append((request.checkpoint, tensors(request.checkpoint)))
            return super().paint(request, count)

    host = Reading(bench.root / "host")
    changes = {**WHOLE, "preview.watch": "off", "saving.precision": "fp16"}
    result, _, _ = bench.run(changes, host=host)
    straight = bench.run({**changes, "preview.enabled": "false", "saving.every_steps": "2"}, host=bench.host("straight"))[2]
    path, weights = held[0]
    assert path == host.paths.data / "runs" / "run" / PREVIEW_CHECKPOINT and not path.exists()
    assert same(weights, tensors(straight.paths.checkpoints / "cat-000002.safetensors"))
    assert held[-1][0] == result.file and len(list(host.paths.checkpoints.glob("*.safetensors"))) == 1


@pytest.mark.parametrize("changes", [SHOWN, {**WHOLE, "preview.watch": "off"}])
def test_a_preview_that_fails_is_said_and_training_goes_on(bench, changes):
    host = bench.host()
    host.faults["pictures"] = (1, HostError("no image"))
    result, told, _ = bench.run(changes, host=host)
    assert result.outcome == "done" and [row.step for row in told.rows] == [0] and not list(host.paths.data.rglob(PREVIEW_CHECKPOINT))
    assert any("preview of step 2 could not be made: no image" in line for line in told.lines)
    assert not list(host.paths.lora.glob("cat-0*"))


def test_a_run_that_goes_on_finds_its_rows_and_does_not_make_them_again(bench):
    changes = {**SHOWN, "preview.watch": "on", "training.steps": "6"}
    stopped, first, host = bench.run(changes, recorder=Recorder(stop_at=3))
    stopped.file.unlink()
    made = len(host.asked)
    _, second, _ = bench.run(changes, host=host)
    steps = [row.step for row in second.rows]
    assert [row.step for row in first.rows] == [0, 2, 3] and steps == [0, 2, 3, 4, 6] and second.rows[:3] == first.rows
    assert len(host.asked) - made == 2 * made // 3
    assert set(first.figures) < set(second.figures) and {step for _, step, _ in second.figures} == {2, 3, 4, 6}


def test_a_broken_index_is_begun_anew(bench):
    _, _, host = bench.run({**SHOWN, "training.steps": "6"}, recorder=Recorder(stop_at=3))
    RunFolder(host.paths.data / "runs" / "run").previews_index.write_text("{")
    _, told, _ = bench.run({**SHOWN, "training.steps": "6", "saving.overwrite": "false"}, host=host)
    assert [row.step for row in told.rows] == [0, 4, 6]


def test_the_watch_paints_the_class_and_unrelated_things_at_every_step(bench):
    _, told, host = bench.run({**WHOLE, "preview.watch": "auto"})
    assert set(told.rows[0].kinds) == {"subject", "class", "other"} and len({row.kinds for row in told.rows}) == 1
    by_kind = dict(zip(told.rows[0].kinds, told.rows[0].prompts))
    assert by_kind == {"subject": "a photo of sks cat", "class": "a photo of cat", "other": watch.UNRELATED[1]}
    assert {(name, step) for name, step, _ in told.figures} == {(name, step) for name in watch.FIGURES for step in (2, 4)}
    assert set(index(host)["figures"]) == set(watch.FIGURES)


@pytest.mark.parametrize(("changes", "kinds"), [
    (SHOWN, {"subject"}),
    ({**SHOWN, "preview.watch": "on"}, {"subject", "class", "other"}),
    ({**SHOWN, "preview.watch": "on", "data.class_word": ""}, {"subject", "other"}),
    ({**WORD, "preview.watch": "on"}, {"subject"}),
    ({**WHOLE, "preview.watch": "off"}, {"subject"}),
])  # fmt: skip
def test_what_is_watched_follows_method_and_setting(bench, changes, kinds):
    _, told, _ = bench.run(changes)
    assert set(told.rows[-1].kinds) == kinds and bool(told.figures) == (changes.get("preview.watch") == "on")


def test_side_effects_are_said_in_plain_words_and_a_sane_run_says_nothing(bench):
    class Spoiling(FakeHost):
        """From the first file on, every image is dark red."""

        def paint(self, request, count):
            made = super().paint(request, count)
            return [Image.new("RGB", image.size, (90, 0, 0)) for image in made] if request.checkpoint else made

    words = "Colours of images"
    _, told, _ = bench.run(WHOLE, host=Spoiling(bench.root / "spoilt"))
    assert [line.split(":")[0] for line in told.lines if words in line] == ["Step 2"]
    assert not any(words in line for line in bench.run(WHOLE)[1].lines)


def test_held_out_pictures_are_the_yardstick_of_copies(bench, monkeypatch):
    seen = []
    real = watch.figures
    monkeypatch.setattr(
        watch, "figures", lambda base, now, training, held: seen.append((len(training), len(held))) or real(base, now, training, held)
    )
    bench.run({**SHOWN, "preview.watch": "on", "data.held_out": "1"})
    assert set(seen) == {(3, 1)}


def test_the_first_picture_of_the_last_row_is_the_cards(bench):
    result, told, host = bench.run({**SHOWN, "preview.prompts": "one;two"})
    last = host.paths.data / "runs" / "run" / told.rows[-1].files[0]
    assert Image.open(result.file.with_suffix(".png")).tobytes() == Image.open(last).tobytes() and len(host.asked) == 6
    only, told, host = bench.run({**SHOWN, "preview.prompts": "one;two", "preview.every": "0"}, host=bench.host("card"))
    assert only.file.with_suffix(".png").is_file() and [request.prompt for request in host.asked] == ["one"] and not told.rows


def test_the_disk_must_hold_a_previews_checkpoint_too(bench, monkeypatch):
    import shutil

    from lib_finetune.estimates import memory_plan, method_costs

    changes = {**WHOLE, "preview.watch": "off", "tuning.weights": "fp32", "tuning.in_backward": "off", "optimizer.name": "adamw"}
    with bench.host().lease() as lease:
        chosen, counts = settings(bench.images, changes), memory_plan.weights_of(lease).counts
        file = method_costs.checkpoint_bytes(chosen, counts, method_costs.stored(None, lease))
        room = file + 2 * memory_plan.state_bytes(chosen, counts)
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: real(folder)._replace(free=room))
    assert bench.run({**changes, "preview.every": "0"})[0].outcome == "done"
    with pytest.raises(InputError, match=r"a preview's checkpoint .* or preview\.every to 0"):
        bench.run(changes, host=bench.host("full"))


@pytest.mark.parametrize(
    "prompts", ["zxq in the snow <lora:other:1>", "<hypernet:h:1>;zxq in the snow, <lyco:{trigger}:0.5>", "<lora:cat:0.8>"]
)
def test_networks_in_preview_prompts_are_left_out_and_said(bench, prompts):
    _, told, host = bench.run({**SHOWN, "preview.prompts": prompts, "preview.watch": "on"})
    assert not [request.prompt for request in host.asked if "<" in request.prompt]
    assert any(line.startswith("Left out of the previews: <") for line in told.lines)
    assert all(kind != "subject" or prompt for row in told.rows for kind, prompt in zip(row.kinds, row.prompts))


def test_networks_in_the_template_reach_no_picture(bench):
    changes = {"data.template": "a photo of {trigger} {class} <lora:x:1>", "data.class_count": "2", "objective.prior": "pictures"}
    _, _, host = bench.run({**SHOWN, **changes, "preview.watch": "on"})
    assert {request.prompt for request in host.asked if request.prompt.startswith("a photo of")} >= {"a photo of zxq cat", "a photo of cat"}
    assert not [request.prompt for request in host.asked if "<" in request.prompt]
