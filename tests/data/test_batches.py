from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from lib_finetune.data.batches import Batches
from lib_finetune.data.cache import LatentCache
from lib_finetune.data.plan import Plan
from lib_finetune.data.scan import scan
from lib_finetune.errors import FinetuneError, InputError
from tests.fakes.plans import plan_of


class Encoder:
    """Stands for a VAE: eight pixels become one, three channels four; counts its calls."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.shapes.append(tuple(pixels.shape))
        small = F.avg_pool2d(pixels, 8)
        mean = torch.cat([small, small.mean(dim=1, keepdim=True)], dim=1)
        return mean, mean.abs() + 0.1


@pytest.fixture
def made(paint, tmp_path):
    """Batches of six images and three class images in real files."""

    def make(cache: LatentCache | None = None, prior_weight: float = 0.5, **options: object) -> tuple[Batches, Encoder, Plan]:
        for number in range(6):
            paint(f"pictures/{number}.png", size=((90, 60), (64, 64))[number % 2], seed=number)
        for number in range(3):
            paint(f"class/{number}.png", size=(70, 70), seed=10 + number)
        chosen = {"resolution": 64, "batch": 2, "crop": "random", "flip": True, "trigger": "zxq", "class_word": "dog"}
        plan = plan_of(scan(tmp_path / "pictures").pictures, scan(tmp_path / "class").pictures, **(chosen | options))
        encoder = Encoder()
        return Batches(plan, cache or LatentCache(None, "vae"), encoder, prior_weight), encoder, plan

    return make


def test_a_batch_has_the_shapes_that_it_promises(made):
    batches, _, plan = made()
    batch = batches.batch(0)
    count = len(plan.items(0))
    assert batch.mean.shape == batch.std.shape == (count, 4, 8, 8)
    assert batch.mean.dtype == batch.std.dtype == batch.weight.dtype == torch.float32
    assert len(batch.captions) == len(batch.prior) == len(batch.names) == len(batch.weight) == count


def test_class_pictures_have_the_prior_weight(made):
    batch = made()[0].batch(0)
    assert batch.weight.tolist() == [0.5 if prior else 1.0 for prior in batch.prior]
    assert any(batch.prior)


def test_pictures_are_encoded_one_at_a_time(made):
    batches, encoder, _ = made()
    batches.batch(0)
    assert {shape[0] for shape in encoder.shapes} == {1}


def test_nothing_is_missing_after_what_was_missing_is_encoded(made):
    batches, encoder, _ = made()
    for variant in batches.missing(0, 40):
        batches.encode_variant(variant)
    calls = len(encoder.shapes)
    assert batches.missing(0, 40) == []
    for step in range(40):
        batches.batch(step)
    assert len(encoder.shapes) == calls


def test_a_batch_is_the_same_cached_ahead_or_encoded_on_the_way(made):
    ahead, late = made()[0], made()[0]
    for variant in ahead.missing(0, 10):
        ahead.encode_variant(variant)
    for step in range(10):
        first, second = ahead.batch(step), late.batch(step)
        assert torch.equal(first.mean, second.mean)
        assert torch.equal(first.std, second.std)
        assert first.captions == second.captions


def test_a_batch_is_the_same_with_no_room_in_memory(made):
    roomy, tight = made()[0], made(LatentCache(None, "vae", ram_bytes=0))[0]
    assert all(torch.equal(roomy.batch(step).mean, tight.batch(step).mean) for step in (0, 1, 2, 1, 0))


def test_the_next_run_finds_the_pictures_on_disk(made, tmp_path):
    first = made(LatentCache(tmp_path / "cache", "vae"))[0]
    for variant in first.missing(0, 20):
        first.encode_variant(variant)
    assert made(LatentCache(tmp_path / "cache", "vae"))[0].missing(0, 20) == []


def test_another_vae_finds_nothing(made, tmp_path):
    first = made(LatentCache(tmp_path / "cache", "vae"))[0]
    needed = first.missing(0, 1)
    first.batch(0)
    assert made(LatentCache(tmp_path / "cache", "other"))[0].missing(0, 1) == needed


def test_mirrored_pictures_are_mirrored(made):
    batches, _, plan = made(batch=1, crop="centre")
    seen: dict[tuple[int, bool], torch.Tensor] = {}
    for step in range(100):
        item = plan.items(step)[0]
        seen[item.picture, item.flip] = batches.batch(step).mean[0]
    assert all(torch.allclose(seen[index, True], seen[index, False].flip(2), atol=1e-6) for index in range(6))


def test_names_are_relative_to_the_folder(made):
    batches, _, plan = made()
    assert batches.batch(0).names[0] == plan.pictures[plan.items(0)[0].picture].name


def test_copies_of_a_picture_are_encoded_once(made, paint):
    paint("pictures/copy.png", size=(90, 60), seed=0)
    batches, _, _ = made(crop="centre", flip=False)
    keys = [batches._key(variant) for variant in batches.missing(0, 100)]
    assert len(keys) == len(set(keys))


def test_a_picture_that_vanished_is_named(made, tmp_path):
    batches, _, plan = made()
    victim = plan.pictures[plan.items(0)[0].picture].path
    victim.unlink()
    with pytest.raises(InputError, match=victim.name):
        batches.batch(0)


def test_a_picture_that_changed_is_named(made, paint):
    batches, _, plan = made()
    name = plan.pictures[plan.items(0)[0].picture].name
    paint(f"pictures/{name}", seed=77)
    with pytest.raises(InputError, match=name):
        batches.batch(0)


def test_a_vanished_picture_does_not_matter_once_it_is_cached(made):
    batches, _, plan = made()
    expected = batches.batch(0)
    for item in plan.items(0):
        (plan.class_pictures if item.prior else plan.pictures)[item.picture].path.unlink(missing_ok=True)
    assert torch.equal(batches.batch(0).mean, expected.mean)


def test_numbers_that_are_not_finite_are_refused_and_not_cached(made):
    batches, _, plan = made()
    batches._encode = lambda pixels: (torch.full((1, 4, 8, 8), torch.nan), torch.ones(1, 4, 8, 8))
    variant = plan.items(0)[0].variant
    with pytest.raises(FinetuneError, match="not finite"):
        batches.encode_variant(variant)
    assert variant in batches.missing(0, 1)
