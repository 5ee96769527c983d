import copy

import numpy as np
import pytest

from bench.nano import autoencoder, codec, layout
from bench.nano.world import draw, random_scene


@pytest.fixture(scope="module")
def vae():
    return autoencoder.new()


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(5)
    return autoencoder.to_tensor(np.stack([draw(random_scene(rng)) for _ in range(4)]))


def test_the_short_way_to_latents_is_the_encoders(vae, images):
    import torch

    with torch.no_grad():
        mean = vae.encode(images).latent_dist.mean
    assert ((codec.latents(vae, images) - mean) * layout.LATENT_SCALE).abs().max() < 0.08


def test_untrained_it_rebuilds_colours(vae, images):
    import torch

    with torch.no_grad():
        rebuilt = vae.decode(codec.latents(vae, images)).sample
    assert (rebuilt - images).abs().mean() < 0.2


def test_latents_have_standard_deviation_one_when_scaled(vae):
    rng = np.random.default_rng(6)
    images = autoencoder.to_tensor(np.stack([draw(random_scene(rng)) for _ in range(150)]))
    spread = codec.latents(vae, images).std((0, 2, 3)) * layout.LATENT_SCALE
    assert ((spread > 0.85) & (spread < 1.15)).all()


@pytest.mark.slow
def test_training_goes_on_where_it_stopped(tmp_path, vae, monkeypatch):
    import torch

    monkeypatch.setattr(autoencoder, "new", lambda _seed: copy.deepcopy(vae))
    monkeypatch.setattr(autoencoder, "CROP_PX", 32)

    settings = {"batch": 1, "save_every": 1}
    whole = autoencoder.train(tmp_path / "whole.pt", steps=2, **settings)
    state = tmp_path / "halves.pt"

    class KilledError(Exception):
        pass

    def kill(path, content, save=autoencoder.stage.save_state):
        save(path, content)
        raise KilledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(autoencoder.stage, "save_state", kill)
        with pytest.raises(KilledError):
            autoencoder.train(state, steps=2, **settings)
    halves = autoencoder.train(state, steps=2, **settings)
    for one, other in zip(whole.parameters(), halves.parameters(), strict=True):
        torch.testing.assert_close(one, other)
