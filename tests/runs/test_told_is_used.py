"""What a run tells of texts and class images is what its batches hold, and what its model reads."""

import pytest

from lib_finetune.assembly import builder, dataset
from lib_finetune.data.captions import up_to_word
from lib_finetune.text.learned import count_tokens
from tests.fakes.host import FakeHost
from tests.fakes.pictures import draw
from tests.fakes.runs import Bench, settings

LONG = "big green tree, " * 25  # 100 tokens
LIMIT = {"data.max_tokens": "75"}


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def cut_off(told, what):
    return [line for line in told.lines if line.startswith(f"A {what} has") and "cut off" in line]


def test_every_text_that_is_cut_off_is_said(bench):
    classes = draw(bench.root / "classes", 2)
    (classes / "0.txt").write_text(LONG + "a cat")
    template = bench.root / "words.txt"
    template.write_text("a photo of {trigger}\n{trigger}, " + LONG)
    changes = {**LIMIT, "data.class_images": str(classes), "objective.prior": "pictures", "preview.enabled": "true",
               "preview.every": "0", "preview.prompts": f"zxq, {LONG}"}  # fmt: skip
    _, told, _ = bench.run(changes)
    assert len(cut_off(told, "class caption")) == 1 and not cut_off(told, "caption")
    assert any(line.startswith("A preview prompt has") for line in told.lines)
    _, told, _ = bench.run({**LIMIT, "method": "textual_inversion", "name": "qqword", "embedding.template": str(template)}, folder="word",
                           host=bench.host("word"))  # fmt: skip
    assert len(cut_off(told, "template")) == 1 and not cut_off(told, "caption")


def test_held_out_captions_that_are_cut_off_are_said(tmp_path):
    bench = Bench(tmp_path, pictures=6)
    for image in bench.images.glob("*.png"):
        image.with_suffix(".txt").write_text(f"zxq {image.stem}, " + LONG)
    _, told, _ = bench.run({**LIMIT, "data.held_out": "2"})
    assert len(cut_off(told, "caption")) == 6


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"data.shuffle_tags": "true", "data.keep_tags": "60"},
        {"data.tag_dropout": "0.1"},
        {"method": "pivotal_tuning", "name": "qqword"},
        {"method": "dreambooth", "objective.prior": "off"},
    ],
)
def test_a_trigger_behind_the_limit_is_put_in_front(tmp_path, changes):
    images = draw(tmp_path / "pictures", 3)
    for image in images.glob("*.png"):
        image.with_suffix(".txt").write_text(f"{LONG}{changes.get('name', 'zxq')} cat, asleep")
    tools = FakeHost(tmp_path / "host").text_tools()
    from lib_finetune.assembly import automatic_settings

    given = settings(images, {**LIMIT, "data.caption_dropout": "0", **changes})
    chosen = automatic_settings.resolved(given, 3, 1)[0]
    plan = builder.data_plan(chosen, dataset.find(chosen), tools)
    captions = {item.caption for micro in range(30) for item in plan.items(micro)} | set(plan.captions)
    for caption in captions:
        beginning = up_to_word(caption, chosen.data.trigger)
        assert beginning is not None and count_tokens(tools.tokenizer, beginning) <= 75


def test_a_trigger_that_is_read_stays_where_it_is(tmp_path):
    images = draw(tmp_path / "pictures", 1)
    (images / "0.txt").write_text("a tree beside zxq cat, " + LONG)
    given = settings(images, LIMIT)
    plan = builder.data_plan(given, dataset.find(given), FakeHost(tmp_path / "host").text_tools())
    assert plan.captions == (f"a tree beside zxq cat, {' '.join(LONG.split())}",)


@pytest.mark.parametrize("prior", ["off", "prediction"])
@pytest.mark.parametrize("source", ["folder", "count"])
def test_class_images_that_are_not_used_are_not_listed(bench, prior, source):
    classes = draw(bench.root / "classes", 4)
    named = {"data.class_images": str(classes)} if source == "folder" else {"data.class_count": "4"}
    _, told, host = bench.run({**named, "objective.prior": prior, "training.steps": "2"})
    assert any(line.startswith("Class images are not used") for line in told.lines)
    assert not [line for line in told.lines if "4 images in" in line or "The batches hold" in line] and not host.asked


def test_what_is_made_is_reported_and_the_batches_tell_what_they_hold(bench):
    changes = {"data.class_count": "6", "objective.prior": "pictures", "training.steps": "4"}
    _, told, _ = bench.run(changes)
    assert any(line.startswith("6 images in") for line in told.lines)
    assert any(line.startswith("The batches hold 4 of 6 class images") for line in told.lines)


def test_a_class_image_that_is_broken_later_is_reported(bench):
    changes = {"data.class_count": "4", "objective.prior": "pictures", "training.steps": "4"}
    _, _, host = bench.run(changes)
    sorted((host.paths.data / "classes").rglob("*.png"))[1].write_bytes(b"no image")
    _, told, _ = bench.run({**changes, "name": "second"}, host=host, folder="second")
    assert any(line.startswith("Skipped: 00002.png") for line in told.lines)
    assert any(line.startswith("The batches hold 3 of 3 class images") for line in told.lines)


@pytest.mark.parametrize("prior", ["pictures", "prediction", "off"])
@pytest.mark.parametrize("weight", ["0", "1"])
def test_a_class_without_weight_is_said_not_to_be_kept(bench, prior, weight):
    changes = {"data.class_count": "2" if prior == "pictures" else "0", "objective.prior": prior, "objective.prior_weight": weight}
    _, told, _ = bench.run({**changes, "training.steps": "1"})
    assert any(line.startswith("The class is not kept") for line in told.lines) == (weight == "0" and prior != "off")
