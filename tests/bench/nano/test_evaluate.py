from types import SimpleNamespace

from bench.nano import evaluate
from lib_finetune.model.noise_schedule import scaled_linear


def test_the_sampler_arrives_where_a_perfect_denoiser_points():
    import torch

    target = torch.linspace(-1, 1, 4 * 16 * 16).view(1, 4, 16, 16)
    alphas = scaled_linear()

    def unet(noisy, timestep, context):
        alpha = alphas[timestep]
        return SimpleNamespace(sample=(noisy - alpha.sqrt() * target) / (1 - alpha).sqrt())

    noise = evaluate.start_noise(3)[None]
    painted = evaluate._denoise(unet, torch.zeros(2, 77, 64), noise, steps=20, guidance=5.0)
    torch.testing.assert_close(painted, target, atol=1e-3, rtol=0)


def test_a_seed_names_one_noise():
    import torch

    assert torch.equal(evaluate.start_noise(5), evaluate.start_noise(5))
    assert not torch.equal(evaluate.start_noise(5), evaluate.start_noise(6))
