from __future__ import annotations

import pytest
import torch
from PIL import Image

from lib_finetune.assembly import dataset
from lib_finetune.data.batches import Batches
from lib_finetune.data.cache import LatentCache
from lib_finetune.data.fingerprint import fingerprint
from lib_finetune.data.mask_files import mask_files
from lib_finetune.data.masks import MaskWeights, shows_nothing, with_masks
from lib_finetune.data.scan import scan
from lib_finetune.errors import InputError
from lib_finetune.preflight.problems import problems
from lib_finetune.training.functional import losses
from tests.fakes.plans import plan_of
from tests.fakes.runs import Bench, settings

LEFT = (0, 0, 64, 64)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def half(path, size=(128, 64), box=LEFT, mode="L"):
    """A mask that shows ``box``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.new(mode, size, 0)
    mask.paste({"RGBA": (255, 255, 255, 255)}.get(mode, 255), box)
    mask.save(path)
    return path


def of(folder, source="files"):
    """The masks of a folder's images by name, and what is said of those that cannot be used."""
    pictures, unusable = with_masks(scan(folder).pictures, source)
    return {picture.name: picture.mask for picture in pictures}, dict(unusable)


# -- whose mask ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mask", ["cat_mask.png", "cat-masklabel.png", "CAT-Mask.webp", "cat.jpg_mask.png", "mask/cat.png", "Masks/cat.jpg.png"]
)
def test_a_mask_belongs_to_the_image_of_its_name(paint, tmp_path, mask):
    paint("cat.jpg", size=(128, 64))
    paint("dog.png", size=(128, 64))
    half(tmp_path / mask)
    masks, _ = of(tmp_path)
    assert masks["cat.jpg"].path == tmp_path / mask and masks["dog.png"] is None


def test_two_images_of_one_stem_share_a_mask(paint, tmp_path):
    for name in ("cat.jpg", "cat.png"):
        paint(name, size=(128, 64))
    half(tmp_path / "cat_mask.png")
    assert all(mask.path.name == "cat_mask.png" for mask in of(tmp_path)[0].values())


def test_a_folder_of_masks_mirrors_the_folders_of_images(tmp_path):
    pictures = [tmp_path / "5_a" / "1.png", tmp_path / "5_b" / "1.png", tmp_path / "5_b" / "2.png"]
    masks = [tmp_path / "mask" / "5_a" / "1.png", tmp_path / "mask" / "5_b" / "1.png", tmp_path / "mask" / "2.png"]
    assert mask_files(masks, pictures, tmp_path) == {picture: (mask,) for picture, mask in zip(pictures, masks, strict=True)}


def test_a_mask_that_could_be_of_two_folders_is_of_none(paint, tmp_path):
    for folder in ("5_a", "5_b"):
        paint(f"{folder}/1.png", size=(128, 64))
    half(tmp_path / "mask" / "1.png")
    report = scan(tmp_path)
    assert [picture.mask for picture in report.pictures] == [None, None]
    assert "Masks that are not used, for no image has their names: mask/1.png." in report.notes


def test_of_two_masks_one_goes_first_and_the_other_is_named(paint, tmp_path):
    paint("cat.png", size=(128, 64))
    for name in ("cat_mask.png", "mask/cat.png"):
        half(tmp_path / name)
    report = scan(tmp_path)
    assert report.pictures[0].mask.path == tmp_path / "cat_mask.png"
    assert "Masks that are not used, for another of the same image goes first: mask/cat.png." in report.notes


# -- which can be used ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0, 1])
def test_an_empty_mask_is_a_problem_by_name(bench, level):
    Image.new("L", (64, 64), level).save(bench.images / "0_mask.png")
    found = problems(settings(bench.images, {}))
    assert [(problem.field, "0_mask.png" in problem.message and "is empty" in problem.message) for problem in found] == [
        ("data.masks", True)
    ]
    assert problems(settings(bench.images, {"data.masks": "off"})) == []


def test_a_mask_of_another_shape_is_a_problem(paint, tmp_path):
    paint("cat.png", size=(128, 64))
    half(tmp_path / "cat_mask.png", size=(64, 128))
    assert "another shape than its image (64×128 px against 128×64)" in next(iter(of(tmp_path)[1].values()))


def test_a_mask_of_another_size_is_scaled(paint, tmp_path):
    paint("cat.png", size=(128, 64))
    half(tmp_path / "cat_mask.png", size=(32, 16), box=(0, 0, 16, 16))
    weights = MaskWeights(0.0).of(of(tmp_path)[0]["cat.png"], (128, 64), (0.5, 0.5), False)
    assert weights[0, 0].tolist() == [[1.0] * 8 + [0.0] * 8] * 8


def test_a_damaged_mask_is_a_problem(paint, tmp_path):
    paint("cat.png", size=(128, 64))
    (tmp_path / "cat_mask.png").write_bytes(b"no image")
    assert "cannot be used" in of(tmp_path)[1][tmp_path / "cat_mask.png"]


def test_a_mask_that_changes_after_the_scan_is_refused_by_name(paint, tmp_path):
    paint("cat.png", size=(128, 64))
    file = half(tmp_path / "cat_mask.png")
    mask = of(tmp_path)[0]["cat.png"]
    half(file, box=(0, 0, 32, 64))
    with pytest.raises(InputError, match="cat_mask.png has changed"):
        MaskWeights(0.1).of(mask, (128, 64), (0.5, 0.5), False)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1", "LA"])
def test_white_is_what_is_shown_in_each_kind_of_image(paint, tmp_path, mode):
    paint("cat.png", size=(128, 64))
    whole = Image.new("L", (128, 64), 0)
    whole.paste(255, LEFT)
    if mode in ("RGBA", "LA"):
        image = Image.new(mode, (128, 64), (255, 255, 255, 255) if mode == "RGBA" else (255, 255))
        image.putalpha(whole)
    else:
        image = whole.convert(mode)
    image.save(tmp_path / "cat_mask.png")
    weights = MaskWeights(0.0).of(of(tmp_path)[0]["cat.png"], (128, 64), (0.5, 0.5), False)
    assert weights[0, 0, 0].tolist() == [1.0] * 8 + [0.0] * 8


def test_transparency_is_a_mask_on_wish(tmp_path):
    image = Image.new("RGBA", (128, 64), (9, 9, 9, 0))
    image.paste((9, 9, 9, 255), LEFT)
    image.save(tmp_path / "cat.png")
    Image.new("RGB", (128, 64)).save(tmp_path / "dog.png")
    assert of(tmp_path)[0] == {"cat.png": None, "dog.png": None}
    masks, _ = of(tmp_path, "alpha")
    assert masks["dog.png"] is None
    assert MaskWeights(0.25).of(masks["cat.png"], (128, 64), (0.5, 0.5), False)[0, 0, 0].tolist() == [1.0] * 8 + [0.25] * 8


# -- cut as its image ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("position", "flip", "row"),
    [
        ((0.0, 0.5), False, [1.0] * 8),
        ((1.0, 0.5), False, [0.1] * 8),
        ((0.5, 0.5), False, [1.0] * 4 + [0.1] * 4),
        ((0.5, 0.5), True, [0.1] * 4 + [1.0] * 4),
    ],
)
def test_a_mask_is_cut_and_mirrored_as_its_image(paint, tmp_path, position, flip, row):
    paint("cat.png", size=(128, 64))
    half(tmp_path / "cat_mask.png")
    weights = MaskWeights(0.1).of(of(tmp_path)[0]["cat.png"], (64, 64), position, flip)
    torch.testing.assert_close(weights[0, 0], torch.tensor([row] * 8))


def test_half_a_latent_counts_half(paint, tmp_path):
    paint("cat.png", size=(64, 64))
    half(tmp_path / "cat_mask.png", size=(64, 64), box=(0, 0, 4, 64))
    weights = MaskWeights(0.2).of(of(tmp_path)[0]["cat.png"], (64, 64), (0.5, 0.5), False)
    torch.testing.assert_close(weights[0, 0, 0, :2], torch.tensor([0.2 + 0.8 * 0.5, 0.2]), atol=2e-3, rtol=0)


def test_a_mask_whose_part_is_cut_off_is_seen(paint, tmp_path):
    paint("cat.png", size=(128, 64))
    half(tmp_path / "cat_mask.png")
    mask = of(tmp_path)[0]["cat.png"]
    assert shows_nothing(mask, (64, 0, 128, 64), (128, 64)) and not shows_nothing(mask, (32, 0, 96, 64), (128, 64))


def test_an_image_without_a_mask_counts_fully_beside_one_with_a_mask(paint, tmp_path):
    for name in ("cat.png", "dog.png"):
        paint(f"own/{name}", size=(64, 64))
    paint("class/x.png", size=(64, 64))
    half(tmp_path / "own" / "cat_mask.png", size=(64, 64), box=(0, 0, 32, 64))
    pictures, _ = with_masks(scan(tmp_path / "own").pictures, "files")
    plan = plan_of(pictures, scan(tmp_path / "class").pictures, resolution=64, batch=2)
    batches = Batches(plan, LatentCache(None, "vae"), lambda pixels: (torch.zeros(1, 4, 8, 8),) * 2, 1.0, 0.0)
    batch = batches.batch(0)
    rows = {name: batch.mask[place, 0, 0].tolist() for place, name in enumerate(batch.names)}
    assert rows == {"cat.png": [1.0] * 4 + [0.0] * 4, "dog.png": [1.0] * 8, "x.png": [1.0] * 8}


def test_without_masks_a_batch_has_none(paint, tmp_path):
    paint("cat.png", size=(64, 64))
    plan = plan_of(scan(tmp_path).pictures, resolution=64)
    assert Batches(plan, LatentCache(None, "vae"), lambda pixels: (torch.zeros(1, 4, 8, 8),) * 2).batch(0).mask is None


def test_images_whose_mask_changed_are_others(paint, tmp_path):
    paint("cat.png", size=(128, 64))
    bare = fingerprint(with_masks(scan(tmp_path).pictures, "files")[0])
    half(tmp_path / "cat_mask.png")
    first = fingerprint(with_masks(scan(tmp_path).pictures, "files")[0])
    half(tmp_path / "cat_mask.png", box=(0, 0, 32, 64))
    second = fingerprint(with_masks(scan(tmp_path).pictures, "files")[0])
    assert len({bare, first, second}) == 3
    assert fingerprint(with_masks(scan(tmp_path).pictures, "off")[0]) == bare


# -- what it does to the loss --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mse", "huber"])
def test_loss_and_gradient_are_those_of_a_hand_computation(name):
    generator = torch.Generator().manual_seed(0)
    prediction = torch.randn(2, 4, 8, 8, generator=generator, dtype=torch.float64).requires_grad_()
    target = torch.randn(2, 4, 8, 8, generator=generator, dtype=torch.float64)
    mask = torch.full((2, 1, 8, 8), 0.1, dtype=torch.float64)
    mask[0, :, :, :4] = 1.0
    mask[1] = 1.0
    c = 0.3
    values = losses.mse(prediction, target, mask) if name == "mse" else losses.huber(prediction, target, c, mask)
    values.sum().backward()
    for sample in range(2):
        total = 0.0
        for channel in range(4):
            for row in range(8):
                for column in range(8):
                    weight = 1.0 if sample == 1 or column < 4 else 0.1
                    error = float((prediction - target).detach()[sample, channel, row, column])
                    root = (error**2 + c**2) ** 0.5
                    total += weight * (error**2 if name == "mse" else 2 * c * (root - c)) / 256
                    slope = weight * (2 * error if name == "mse" else 2 * c * error / root) / 256
                    assert float(prediction.grad[sample, channel, row, column]) == pytest.approx(slope, rel=1e-9)
        assert float(values[sample].detach()) == pytest.approx(total, rel=1e-9)


def test_class_images_have_no_masks(bench):
    classes = bench.root / "classes"
    for folder in (bench.images, classes):
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (64, 64), (3, 4, 5)).save(folder / "c.png")
        half(folder / "c_mask.png", size=(64, 64), box=(0, 0, 32, 64))
    images = dataset.find(settings(bench.images, {"data.class_images": str(classes), "data.class_word": "cat"}))
    assert [picture.mask is not None for picture in images.pictures if picture.name == "c.png"] == [True]
    assert images.classes is not None and [picture.mask for picture in images.classes.pictures] == [None]


@pytest.mark.parametrize("changes", [{}, {"objective.prior": "prediction"}], ids=["plain", "prior prediction"])
def test_what_a_mask_leaves_out_is_not_learned_with_weight_0(bench, changes, monkeypatch):
    """The whole way: settings, scan, batch, loss; the class is kept everywhere."""
    for picture in sorted(bench.images.glob("*.png")):
        half(picture.with_name(f"{picture.stem}_mask.png"), size=Image.open(picture).size, box=(0, 0, 32, 64))
    seen = []
    real = losses.mse
    monkeypatch.setattr(losses, "mse", lambda p, t, weight=None: (seen.append(weight), real(p, t, weight))[1])
    bench.run({"training.steps": "2", "objective.unmasked_weight": "0", **changes})
    assert seen and all(weight is not None for weight in seen)
    assert {float(weight[0].min()) for weight in seen} == {0.0}
    if changes:
        assert all(float(weight[1].min()) == 1.0 for weight in seen)
