"""One optimizer a parameter: the same steps as together, no gradients held, and bf16 that keeps the mean."""

import pytest
import torch
from torch import nn

from lib_finetune.training.optim import OPTIMIZERS
from lib_finetune.training.optim.per_parameter import PerParameter, stochastically_rounded


def _model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 5), nn.Linear(5, 5))


def _steps(model, optimizer, count=4, finish=None):
    torch.manual_seed(1)
    for step in range(count):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (step + 1)
        model(torch.randn(2, 3, 6, 6)).square().mean().backward()
        (finish or optimizer.step)()
        optimizer.zero_grad()
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def _own(model, name="adamw", **how):
    how = {"in_backward": True, "clip_norm": 0.0} | how
    return PerParameter({"unet": list(model.parameters())}, lambda groups: OPTIMIZERS[name].build(groups, 0.01), **how)


@pytest.mark.parametrize("in_backward", [True, False])
def test_the_steps_are_those_of_one_optimizer(in_backward):
    model, apart = _model(), _model()
    together = OPTIMIZERS["adamw"].build({"unet": list(model.parameters())}, 0.01)
    own = _own(apart, in_backward=in_backward)
    torch.testing.assert_close(_steps(apart, own, finish=own.finish), _steps(model, together))


def test_in_backward_no_gradient_is_left():
    model = _model()
    own = _own(model, "adafactor")
    for group in own.param_groups:
        group["lr"] = 1e-2
    before = [parameter.detach().clone() for parameter in model.parameters()]
    model(torch.ones(1, 3, 6, 6)).sum().backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(not torch.equal(parameter, old) for parameter, old in zip(model.parameters(), before, strict=True))
    assert own.finish() > 0


def test_clipping_is_per_parameter_in_backward_and_over_all_without():
    norms = []
    for in_backward in (True, False):
        model = _model()
        own = PerParameter(
            {"unet": list(model.parameters())}, lambda groups: torch.optim.SGD(next(iter(groups.values())), lr=1.0),
            in_backward=in_backward, clip_norm=0.1,
        )  # fmt: skip
        for group in own.param_groups:
            group["lr"] = 1.0
        before = [parameter.detach().clone() for parameter in model.parameters()]
        (100 * model(torch.ones(1, 3, 6, 6)).square().sum()).backward()
        own.finish()
        norms.append([(parameter.detach() - old).norm().item() for parameter, old in zip(model.parameters(), before, strict=True)])
    assert norms[0] == pytest.approx([0.1] * 6, rel=1e-3)
    assert sum(norm**2 for norm in norms[1]) ** 0.5 == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize("name", ["adamw", "adafactor", "lion", "prodigy"])
def test_a_state_goes_on_exactly(name):
    model, halves = _model().bfloat16(), _model().bfloat16()
    whole = _own(model, name)
    torch.manual_seed(3)

    def steps(model, optimizer, first, last):
        for step in range(first, last):
            torch.manual_seed(step)
            for group in optimizer.param_groups:
                group["lr"] = 1e-3
            model(torch.randn(2, 3, 6, 6).bfloat16()).square().mean().backward()
            optimizer.finish()

    steps(model, whole, 0, 6)
    first = _own(halves, name)
    steps(halves, first, 0, 3)
    fresh = _model().bfloat16()
    fresh.load_state_dict(halves.state_dict())
    second = _own(fresh, name)
    second.load_state_dict(first.state_dict())
    steps(fresh, second, 3, 6)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), fresh.parameters(), strict=True))


def test_rounding_keeps_the_mean_and_the_neighbours():
    torch.manual_seed(0)
    value = torch.full((200_000,), 1.0 + 0.001)  # bf16's spacing here is 1/128
    rounded = stochastically_rounded(value).float()
    assert set(rounded.unique().tolist()) == {1.0, 1.0078125}
    assert rounded.mean().item() == pytest.approx(1.001, abs=1e-4)
    kept = torch.tensor([0.0, -1.0, 0.5])
    assert torch.equal(stochastically_rounded(kept).float(), kept)


def test_a_small_step_is_not_lost_in_bf16():
    """Ten thousand steps of 1e-6 on weights of 1: rounding to nearest would never move."""
    torch.manual_seed(0)
    weight = nn.Parameter(torch.ones(2048, dtype=torch.bfloat16))
    own = PerParameter(
        {"unet": [weight]}, lambda groups: torch.optim.SGD(next(iter(groups.values())), lr=1.0), in_backward=True, clip_norm=0.0
    )
    own.param_groups[0]["lr"] = 1e-5
    for _ in range(1000):
        weight.sum().backward()
        own.finish()
    assert weight.float().mean().item() == pytest.approx(0.99, abs=1e-3)


def test_factored_states_of_convolutions_are_small():
    conv = nn.Conv2d(64, 64, 3, bias=False)
    own = PerParameter({"unet": [conv.weight]}, lambda groups: OPTIMIZERS["adafactor"].build(groups, 0.0), in_backward=True, clip_norm=0.0)
    conv(torch.ones(1, 64, 4, 4)).sum().backward()
    held = sum(value.numel() for state in own._seats[0].optimizer.state.values() for value in state.values() if torch.is_tensor(value))
    assert held <= 64 + 64 * 9 + 1
