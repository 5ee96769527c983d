"""One optimizer a parameter: the same steps as together, no gradients held, and bf16 that keeps the mean."""

import copy

import pytest
import torch
from torch import nn

from lib_finetune.training.loop import _tensors, restore
from lib_finetune.training.model_swap import ModelSwap
from lib_finetune.training.optim import OPTIMIZERS, per_parameter
from lib_finetune.training.optim.adamw import has_fused
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


@pytest.mark.parametrize("resumed", [False, True])
def test_the_kernel_is_asked_itself_and_gives_the_bits_of_adamws_step(monkeypatch, resumed):
    if not has_fused(torch.device("cpu")):
        pytest.skip("no fused AdamW on the CPU before torch 2.4")
    models = [_model(), _model()]
    ours, theirs = map(_own, models)
    if resumed:
        for model, optimizer in zip(models, (ours, theirs), strict=True):
            _steps(model, optimizer, 2, optimizer.finish)
        ours.load_state_dict(copy.deepcopy(ours.state_dict()))
    with monkeypatch.context() as patch:
        patch.setattr(per_parameter, "step_alone", lambda optimizer: optimizer.step())
        by_step = _steps(models[1], theirs, finish=theirs.finish)
    asked, step = [], torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, *args: (asked.append(self), step(self, *args)))
    assert torch.equal(_steps(models[0], ours, finish=ours.finish), by_step)
    assert len(asked) == (0 if resumed else len(list(models[0].parameters())))  # the first time makes the state
    for own, reference in zip(ours.state_dict()["each"], theirs.state_dict()["each"], strict=True):
        assert own["state"].keys() == reference["state"].keys() == {0}
        assert all(torch.equal(value, reference["state"][0][name]) for name, value in own["state"][0].items())


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
    held = sum(value.numel() for state in own._movers[0].optimizer.state.values() for value in state.values() if torch.is_tensor(value))
    assert held <= 64 + 64 * 9 + 1


# -- every form of the weights, however they lie in memory -------------------------------------------------------------


def _crossed(value):
    """As the transpose of something contiguous."""
    order = tuple(reversed(range(value.ndim)))
    return value.permute(order).contiguous().permute(order)


PLACES = {
    "contiguous": lambda value: value.clone(),
    "channels_last": lambda value: value.clone(memory_format=torch.channels_last) if value.ndim == 4 else value.clone(),
    "transposed": _crossed,
    "every other": lambda value: value.repeat_interleave(2, dim=-1)[..., ::2],
    "a slice": lambda value: torch.cat([value, value]).split(len(value))[1],
    "expanded": lambda value: value[:1].clone().expand_as(value),
}


def _lying(place, dtype):
    """Parameters of the shapes that SD1.5 has, which lie in memory as ``place`` says."""
    torch.manual_seed(0)
    shapes = {"conv": (4, 3, 3, 3), "point": (5, 4, 1, 1), "linear": (6, 5), "bias": (6,)}
    values = {name: torch.randn(shape) for name, shape in shapes.items()}
    if place == "expanded":
        values = {name: value[:1].expand_as(value).clone() for name, value in values.items()}
    return {name: nn.Parameter(PLACES[place](value.to(dtype))) for name, value in values.items()}


def _optimizer(name, groups, form):
    if form == "together":
        return OPTIMIZERS[name].build(groups, 0.01)
    return PerParameter(groups, lambda own: OPTIMIZERS[name].build(own, 0.01), in_backward=form == "in backward", clip_norm=1.0)


def _skip_what_cannot_be(place, form):
    if place in ("expanded", "every other") and form == "together":
        pytest.skip("a model's own weights never have gaps or lie over one another (tests/model/test_borrowed.py)")


def _trained(place, dtype, name, form, *, values=None, swapped=False, halved=False, steps=4):
    """Weights after some steps, by name; with ``halved`` the second half is another session's, from a saved state."""
    weights = _lying(place, dtype) if values is None else {key: nn.Parameter(PLACES[place](v.detach())) for key, v in values.items()}
    optimizer = _optimizer(name, {"unet": list(weights.values())}, form)
    for step in range(steps):
        if halved and step == steps // 2:
            weights, optimizer = _another_session(place, dtype, name, form, weights, optimizer)
        _step(weights, optimizer, step, 100.0 if name == "prodigy" else 1e-2)
        if swapped:
            held = [*weights.values(), *(state for one in getattr(optimizer, "optimizers", [optimizer]) for state in _tensors(one.state))]
            swap = ModelSwap(lambda held=held: held)
            swap.leave()
            swap.come()
    return {key: value.detach() for key, value in weights.items()}


def _step(weights, optimizer, step, rate):
    for group in optimizer.param_groups:
        group["lr"] = rate
    generator = torch.Generator().manual_seed(step)
    loss = sum((value.float() * torch.randn(value.shape, generator=generator)).sum() for value in weights.values())
    torch.manual_seed(step)  # of stochastic rounding
    loss.backward()
    optimizer.finish() if isinstance(optimizer, PerParameter) else optimizer.step()
    optimizer.zero_grad()


def _another_session(place, dtype, name, form, weights, optimizer):
    """As a run that goes on: the state comes from a file, whose tensors are contiguous."""
    fresh = _lying(place, dtype)
    again = _optimizer(name, {"unet": list(fresh.values())}, form)
    with torch.no_grad():
        for key, value in fresh.items():
            value.copy_(weights[key].clone(memory_format=torch.contiguous_format))
    restore(again, _contiguous(optimizer.state_dict()))
    return fresh, again


def _contiguous(state):
    if torch.is_tensor(state):
        return state.detach().clone(memory_format=torch.contiguous_format)
    if isinstance(state, dict):
        return {key: _contiguous(value) for key, value in state.items()}
    return [_contiguous(value) for value in state] if isinstance(state, list) else state


FORMS = [
    (dtype, name, form)
    for dtype in (torch.float32, torch.bfloat16)
    for name in ("adamw", "adafactor", "lion", "prodigy")
    for form in ("together", "at the end", "in backward")
    if not (form == "together" and dtype == torch.bfloat16) and not (name == "prodigy" and form != "together")  # refused
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("dtype", "name", "form"), FORMS, ids=lambda value: str(value).removeprefix("torch."))
def test_every_trained_weight_moves_and_as_a_contiguous_one_does(place, dtype, name, form):
    _skip_what_cannot_be(place, form)
    start, found = _lying(place, dtype), _trained(place, dtype, name, form)
    assert [key for key, value in found.items() if torch.equal(value, start[key])] == []
    plain = _trained("contiguous", dtype, name, form, values=start)
    assert all(torch.allclose(found[key], plain[key], rtol=1e-5, atol=1e-7) for key in plain)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("dtype", "name", "form"), FORMS, ids=lambda value: str(value).removeprefix("torch."))
def test_exchanged_and_halved_runs_end_with_the_same_weights(place, dtype, name, form):
    _skip_what_cannot_be(place, form)
    straight = _trained(place, dtype, name, form)
    for how in ({"swapped": True}, {"halved": True}):
        found = _trained(place, dtype, name, form, **how)
        assert all(torch.allclose(found[key], straight[key], rtol=1e-5, atol=1e-7) for key in straight), how
