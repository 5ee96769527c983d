"""Several subjects in one training: a folder with words of its own keeps them, and each subject has its own trigger and class."""

import dataclasses
import json
import re
import shutil
from html import unescape

import pytest

from lib_finetune.app import method_advisor
from lib_finetune.assembly import dataset
from lib_finetune.assembly.subjects import class_caption_of, subject_notes, subjects_of
from lib_finetune.errors import InputError
from lib_finetune.estimates import disk_needs, trial
from lib_finetune.ports.pictures import PictureRequest
from lib_finetune.preflight import dataset_report, teaching
from lib_finetune.training.methods import denoising
from lib_finetune.ui import gallery
from tests.fakes.pictures import draw
from tests.fakes.runs import Bench, metadata, settings

TWO = {"10_zxq cat": 2, "5_abc dog": 2}


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    shutil.rmtree(bench.images)
    for folder, count in TWO.items():
        draw(bench.images / folder, count)
    return bench


@pytest.fixture
def trained(monkeypatch):
    """The captions that the loss is computed with."""
    seen = set()
    real = denoising.batch_loss

    def watched(denoiser, text, batch, *rest):
        seen.update(batch.captions)
        return real(denoiser, text, batch, *rest)

    for module in ("lora", "dreambooth"):
        monkeypatch.setattr(f"lib_finetune.training.methods.{module}.batch_loss", watched)
    return seen


@pytest.mark.parametrize(
    ("changes", "own"),
    [
        ({}, "zxq cat"),
        ({"method": "dreambooth", "objective.prior": "off"}, "zxq cat"),
        ({"method": "pivotal_tuning", "name": "qqword", "embedding.template": ""}, "qqword"),
    ],
)
def test_each_folder_is_trained_by_its_own_words(bench, trained, changes, own):
    result, told, host = bench.run({**changes, "data.caption_dropout": "0", "training.steps": "30", "preview.enabled": "true",
                                    "preview.every": "0"})  # fmt: skip
    assert "a photo of abc dog" in trained and any(own in caption for caption in trained)
    assert not [caption for caption in trained if own in caption and "abc" in caption]
    assert any("abc dog" in line and line.startswith("Subjects") for line in told.lines)
    assert "abc dog" in metadata(result.file)["modelspec.trigger_phrase"]
    tags = json.loads(metadata(result.file).get("ss_tag_frequency", "{}")) or {"10_zxq cat": {own: 2}, "5_abc dog": {"abc dog": 2}}
    assert (
        tags.keys() == TWO.keys()
        and all("abc" in text for text in tags["5_abc dog"])
        and not any("abc" in text for text in tags["10_zxq cat"])
    )
    card = json.loads(result.file.with_suffix(".json").read_text())["activation text"]
    assert card.endswith(", abc dog") and card.startswith(own.split()[0])
    assert isinstance(host.asked[0], PictureRequest)


def test_each_class_gets_images_of_its_own(bench, trained):
    changes = {"data.class_count": "2", "objective.prior": "pictures", "data.caption_dropout": "0", "training.steps": "30"}
    _, _, host = bench.run(changes)
    assert [request.prompt for request in host.asked] == ["a photo of cat", "a photo of dog"]
    assert trained == {"a photo of zxq cat", "a photo of abc dog", "a photo of cat", "a photo of dog"}


def test_class_images_are_captioned_by_the_class_that_they_show_whatever_folder_comes_first(bench, trained):
    """No folder is the settings' own subject here, and the first one is of another class than the settings'."""
    (bench.images / "10_zxq cat").rename(bench.images / "9_zxq cat")
    whole = {"method": "dreambooth", "data.trigger": "sks", "data.class_count": "2", "objective.prior": "pictures"}
    bench.run({**whole, "training.steps": "8", "data.caption_dropout": "0"})
    assert {"a photo of cat", "a photo of dog"} <= trained


def test_each_subject_is_shown(bench):
    _, told, _ = bench.run({"preview.enabled": "true", "preview.every": "2", "preview.steps": "1"})
    assert told.rows[0].prompts == ("a photo of zxq cat", "a photo of abc dog")


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        ({"10_zxq cat": 1, "5_abc dog": 1}, {"a photo of zxq cat", "a photo of abc dog"}),
        ({"": 1, "5_abc dog": 1}, {"a photo of zxq cat", "a photo of abc dog"}),
        ({"10_zxq": 1, "5_abc dog": 1}, {"a photo of zxq cat", "a photo of abc dog"}),
        ({"10_cat": 1, "5_Abc  small dog": 1}, {"a photo of zxq cat", "a photo of Abc small dog"}),
        ({"10_zxq cat asleep": 1, "": 1}, {"a photo of zxq cat asleep", "a photo of zxq cat"}),
        ({"5_abc dog": 1}, {"zxq, a photo of abc dog"}),
        ({"5_ZXQ Cat": 1}, {"a photo of zxq cat"}),
    ],
)
def test_words_of_folders_are_kept(tmp_path, folders, expected):
    from lib_finetune.assembly import builder

    for place, (folder, count) in enumerate(folders.items()):
        draw(tmp_path / "pictures" / folder, count, seed=place) if folder else draw(tmp_path / "pictures", count)
    chosen = settings(tmp_path / "pictures")
    plan = builder.data_plan(chosen, dataset.find(chosen))
    assert {caption.lower() for caption in plan.captions} == {caption.lower() for caption in expected}


def test_a_text_file_in_a_folder_of_another_subject_gets_no_trigger_of_ours(bench):
    from lib_finetune.assembly import builder

    for text, folder in (("on the grass", "5_abc dog"), ("asleep", "10_zxq cat")):
        for image in (bench.images / folder).glob("*.png"):
            image.with_suffix(".txt").write_text(text)
    chosen = settings(bench.images)
    assert set(builder.data_plan(chosen, dataset.find(chosen)).captions) == {"abc, on the grass", "zxq, asleep"}


def test_prior_prediction_keeps_the_class_of_each(bench):
    chosen = settings(bench.images)
    subjects = subjects_of(chosen, dataset.find(chosen))
    said = [
        class_caption_of(chosen, subjects, caption) for caption in ("a photo of zxq cat", "abc, on the grass", "zxq cat and abc dog", "")
    ]
    assert said == ["a photo of cat", "dog, on the grass", "cat and dog", "a photo of cat"]


def test_textual_inversion_refuses_several_subjects(bench):
    with pytest.raises(InputError, match="abc dog"):
        bench.run({"method": "textual_inversion", "name": "qqword"})
    with pytest.raises(InputError, match="no image would teach the word qqword"):
        bench.run({"method": "pivotal_tuning", "name": "qqword", "data.trigger": "other"})


@pytest.mark.parametrize(("trigger", "class_word", "said"), [("cat", "cat", True), ("Cat", "cat", True), ("zxq cat", "cat", True),
                                                             ("zxq", "cat", False), ("concat", "cat", False), ("cat", "", False)])  # fmt: skip
def test_a_trigger_that_is_the_class_is_said(tmp_path, trigger, class_word, said):
    notes = subject_notes(settings(tmp_path, {"data.trigger": trigger, "data.class_word": class_word}), ())
    assert any("holds the class word" in note for note in notes) == said


EACH = [
    'Subject "zxq cat": trigger word zxq, class word cat, images trained on: 2.',
    'Subject "abc dog": trigger word abc, class word dog, images trained on: 2.',
]


def test_the_view_of_the_images_lists_each_subject(bench):
    host = bench.host()
    shown = dataset_report.view(settings(bench.images), host.text_tools(), dataset_report.Looks())
    assert list(shown.subject_lines) == EACH
    page = gallery.render({**dataclasses.asdict(shown), "pictures": []}, "key")
    assert [line for line in EACH if line not in unescape(page)] == []
    alone = dataset_report.view(settings(bench.images / "5_abc dog"), host.text_tools(), dataset_report.Looks())
    assert alone.subject_lines == ()


def test_validation_images_are_no_images_that_a_subject_is_trained_on(tmp_path):
    for folder in TWO:
        draw(tmp_path / "own" / folder, 4)
    shown = dataset_report.view(
        settings(tmp_path / "own", {"data.held_out": "2"}), Bench(tmp_path / "b").host().text_tools(), dataset_report.Looks()
    )
    counts = [int(re.search(r": (\d+)\.$", line)[1]) for line in shown.subject_lines]
    assert len(counts) == 2 and sum(counts) == 6


def test_the_forecast_lists_each_subject_and_the_images_of_each_class(bench):
    changes = {"data.class_count": "3", "objective.prior": "pictures", "training.steps": "9"}
    forecast = trial.probe(settings(bench.images, changes), bench.host(), lambda: None)
    assert list(forecast.subjects[:2]) == EACH
    assert [line.split(": ")[0] for line in forecast.subjects[2:]] == [
        "Class images of 'a photo of cat'",
        "Class images of 'a photo of dog'",
    ]
    assert all(line in method_advisor._lines(forecast) for line in forecast.subjects)


def test_the_disk_is_asked_for_the_images_of_each_class(bench, monkeypatch):
    needs, counted = disk_needs.needs, []

    def counting(*given):
        counted.append({need.name: need.size for need in needs(*given)})
        return needs(*given)

    monkeypatch.setattr(disk_needs, "needs", counting)
    changes = {"data.class_count": "2", "objective.prior": "pictures"}
    bench.run(changes)
    trial.probe(settings(bench.images, {**changes, "name": "other"}), bench.host("forecast"), lambda: None)
    Bench(bench.root / "one").run(changes)
    sizes = [each["the class images"] for each in counted]
    assert max(sizes[:-1]) == sizes[0] == 2 * sizes[-1] and sizes[-1] > 0


def test_a_subject_that_is_held_out_whole_is_said_before_the_start(tmp_path):
    draw(tmp_path / "own" / "1_zxq cat", 9)
    draw(tmp_path / "own" / "1_abc dog", 1, seed=3)
    lines = {}
    for seed in range(60):
        given = settings(tmp_path / "own", {"data.held_out": "3", "training.seed": str(seed)})
        images = dataset.find(given)
        out = any("abc dog" in picture.name for picture in images.held)
        lines.setdefault(out, [line for line in teaching.warnings(given, images) if line.startswith('All images of "abc dog"')])
    assert len(lines[True]) == 1 and lines[False] == []
