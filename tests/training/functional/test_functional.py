"""Pure functions against their formulas and against diffusers."""

import itertools

import pytest
import torch

from lib_finetune import randomness
from lib_finetune.model import noise_schedule
from lib_finetune.training.functional import losses, noise, rates, weighting


def test_the_schedule_is_that_of_diffusers():
    from diffusers import DDPMScheduler

    reference = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod
    assert torch.allclose(noise_schedule.scaled_linear(), reference, atol=1e-6)


@pytest.mark.parametrize("method", ["add_noise", "velocity"])
def test_noising_equals_diffusers(method):
    from diffusers import DDPMScheduler

    reference = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    latents, drawn, steps = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), torch.tensor([0, 500, 999])
    ours = getattr(noise_schedule, method)(latents, drawn, steps, noise_schedule.scaled_linear())
    theirs = getattr(reference, "add_noise" if method == "add_noise" else "get_velocity")(latents, drawn, steps)
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_min_snr_weighs_epsilon_and_v_as_the_paper_says():
    snr = torch.tensor([0.1, 5.0, 50.0])
    assert torch.allclose(weighting.min_snr(snr, 5.0, "epsilon"), torch.tensor([1.0, 1.0, 0.1]))
    assert torch.allclose(weighting.min_snr(snr, 5.0, "v_prediction"), torch.tensor([0.1 / 1.1, 5 / 6, 5 / 51]))


def test_huber_is_mse_for_small_errors_and_linear_for_large_ones():
    target = torch.zeros(1, 4, 2, 2)
    small, large = target + 1e-4, target + 100.0
    assert torch.allclose(losses.huber(small, target, 1.0), losses.mse(small, target), rtol=1e-3)
    assert torch.allclose(losses.huber(large, target, 0.1), torch.tensor([2 * 0.1 * 100.0]), rtol=1e-2)


def test_noise_offset_shifts_whole_channels():
    plain = noise.gaussian((2, 4, 8, 8), 0.0, torch.Generator().manual_seed(1))
    shifted = noise.gaussian((2, 4, 8, 8), 0.5, torch.Generator().manual_seed(1))
    difference = shifted - plain
    assert torch.allclose(difference, difference.mean(dim=(2, 3), keepdim=True).expand_as(difference), atol=1e-5)
    assert difference.abs().max() > 0.01


def test_timesteps_stay_in_their_range_and_reach_its_ends():
    drawn = noise.timesteps(20_000, 10, 13, torch.Generator().manual_seed(0))
    assert set(drawn.tolist()) == {10, 11, 12, 13}


def test_step_seeds_do_not_repeat():
    seeds = {randomness.step_seed(seed, step, stream) for seed in range(5) for step in range(200) for stream in range(3)}
    assert len(seeds) == 5 * 200 * 3


@pytest.mark.parametrize("name", list(rates.SCHEDULES))
def test_schedules_warm_up_and_stay_within_one(name):
    values = [rates.factor(name, step, 100, 0.1, restarts=3, power=2.0) for step in range(100)]
    assert values[0] < 0.2 and max(values) <= 1 and min(values) >= 0 and values == sorted(values[:10]) + values[10:]


def test_schedules_end_where_they_should():
    end = {name: rates.factor(name, 100, 100, 0.0, restarts=3, power=2.0) for name in rates.SCHEDULES}
    assert end["constant"] == 1
    assert all(end[name] == pytest.approx(0, abs=1e-6) for name in ("linear", "cosine", "cosine_with_restarts", "polynomial"))


def test_restarts_rise_again():
    values = [rates.factor("cosine_with_restarts", step, 300, 0.0, restarts=3) for step in range(300)]
    assert sum(after > before + 0.5 for before, after in itertools.pairwise(values)) == 2
