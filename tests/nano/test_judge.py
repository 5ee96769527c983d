import numpy as np
import pytest

from lib_finetune.errors import CheckpointError
from lib_finetune.nano import judge
from lib_finetune.nano.world import draw

HELD_OUT = 600


@pytest.fixture(scope="module")
def scenes():
    rng = np.random.default_rng(20261123)
    return [judge.mixed_scene(rng) for _ in range(HELD_OUT)]


@pytest.mark.skipif(not judge.FILE.is_file(), reason="the judge is not trained yet")
def test_the_judge_sees_every_attribute_of_held_out_drawings(scenes):
    pictures = np.stack([draw(scene) for scene in scenes])
    shares = judge.accuracy(judge.load(), pictures, scenes)
    assert min(shares.values()) >= 0.97, shares
    assert judge.geometry_error(judge.load(), pictures, scenes) < 0.03


def test_the_judge_learns(tmp_path, scenes):
    """Twenty steps are far from enough, but they are no longer guessing."""
    trained = judge.train(tmp_path / "judge.safetensors", steps=20, batch=32)
    shares = judge.accuracy(trained, np.stack([draw(scene) for scene in scenes[:100]]), scenes[:100])
    assert shares["pattern"] > 0.4
    assert (tmp_path / "judge.safetensors").stat().st_size < 2e6


def test_a_missing_or_foreign_judge_is_one_clear_message(tmp_path):
    import torch
    from safetensors.torch import save_file

    with pytest.raises(CheckpointError, match="missing"):
        judge.load(tmp_path / "none.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match="no judge"):
        judge.load(tmp_path / "foreign.safetensors")
