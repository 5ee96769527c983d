import pytest

from bench.nano import autoencoder, checkpoint, judge
from lib_finetune.errors import CheckpointError

HELD_OUT = 600
TRAINED = pytest.mark.skipif(not judge.FILE.is_file(), reason="the judge is not trained yet")


@pytest.fixture(scope="module")
def drawings():
    return judge.held_out(HELD_OUT, seed=20261123)


@TRAINED
def test_the_judge_sees_every_attribute_of_held_out_drawings(drawings):
    shares = judge.accuracy(judge.load(), *drawings)
    assert min(shares.values()) >= 0.97, shares
    assert judge.geometry_error(judge.load(), *drawings) < 0.03


@TRAINED
@pytest.mark.slow
@pytest.mark.skipif(not checkpoint.FILE.is_file(), reason="the nano checkpoint is not trained yet")
def test_the_judge_sees_what_went_through_the_autoencoder(drawings):
    """As many pictures as a test can wait for; `nano.train judge-exam` looks at 600."""
    pictures, scenes = (part[:20] for part in drawings)
    through = autoencoder.rebuilt(checkpoint.load()[1], pictures)
    shares = judge.accuracy(judge.load(), through, scenes)
    assert min(shares.values()) >= 0.95, shares


@pytest.mark.slow
def test_the_judge_learns(tmp_path, drawings):
    """Twenty steps are far from enough, but they are no longer guessing."""
    trained = judge.train(tmp_path / "judge.safetensors", steps=20, batch=32)
    shares = judge.accuracy(trained, *(part[:100] for part in drawings))
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
