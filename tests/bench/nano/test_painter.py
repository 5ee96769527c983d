import copy

import numpy as np
import pytest

from bench.nano import layout, painter
from bench.nano.world import random_scene


@pytest.fixture
def small(monkeypatch):
    """One thin text layer and a thin UNet, so that a step takes no time."""
    monkeypatch.setattr(layout, "TEXT_LAYERS", 1)
    monkeypatch.setattr(layout, "UNET_WIDTH", 32)
    monkeypatch.setattr(layout, "UNET_LEVELS", (1, 1, 1, 1))


def test_what_a_caption_says_becomes_classes():
    scene = random_scene(np.random.default_rng(0), shape="star", colour="red", ground="blue", pattern="striped", x=0.5)
    assert painter.truth_of_caption(scene, frozenset({"shape", "pattern"})) == [3, 8, 8, 1, 3]


def test_a_fresh_painter_predicts_nothing(small):
    import torch

    fresh = painter.Painter(layout.new_text_model(), seed=0, lr=1e-3)
    latents, context = torch.randn(2, 4, 16, 16), torch.randn(2, 77, layout.TEXT_WIDTH)
    assert fresh.model["unet"](latents, torch.tensor([1, 900]), context).sample.abs().max() == 0


@pytest.mark.slow
def test_training_goes_on_where_it_stopped(tmp_path, small):
    import torch

    rng = np.random.default_rng(0)
    scenes = [random_scene(rng) for _ in range(8)]
    latents = torch.randn(8, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    text = layout.new_text_model()
    settings = {"steps": 4, "batch": 2}
    whole = painter.train(tmp_path / "whole.pt", copy.deepcopy(text), latents, scenes, **settings)
    kept = tmp_path / "halves.pt"
    with pytest.MonkeyPatch.context() as patch:
        clock = iter([0.0, 0.0, 2.0])
        patch.setattr(painter.time, "time", lambda: next(clock))
        halves = painter.train(kept, copy.deepcopy(text), latents, scenes, stop_at=1.0, **settings)
        assert halves.step == 2
    halves = painter.train(kept, copy.deepcopy(text), latents, scenes, **settings)
    assert halves.step == whole.step == 4
    for one, other in zip(whole.average.parameters(), halves.average.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_high_noise_weighs_more():
    import torch

    assert painter.debiased(torch.tensor([100.0, 1.0, 0.01, 1e-9])).tolist() == pytest.approx([0.1 / 3, 1 / 3, 10 / 3, 20 / 3])
