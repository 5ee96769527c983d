"""Weights in one tensor: they move as they would by themselves, and states are written as if they did."""

import pytest
import torch

from lib_finetune.training.ema import Ema
from lib_finetune.training.optim import OPTIMIZERS
from lib_finetune.training.optim.flat import Flat

ELEMENTWISE = [name for name in OPTIMIZERS if OPTIMIZERS[name].elementwise]
SHAPES = ((3, 8), (6, 3), (3, 8), (5, 3), (2, 4, 1, 1))
RATES = {"adamw": 1e-3, "lion": 1e-4, "prodigy": 1.0}


def weights(zeros=True):
    generator = torch.Generator().manual_seed(0)
    made = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    if zeros:
        made[1].data.zero_()  # as the wide side of a branch is at the start
    return {"unet": made[:3], "text encoder": made[3:]}


def packs_of(groups):
    first, up, second = groups["unet"]
    return [[first, second], [up]]


def build(name):
    return lambda groups: OPTIMIZERS[name].build(groups, 0.1)


def set_rates(optimizer, name):
    for group in optimizer.param_groups:
        group["lr"] = RATES[name]


def drawn(step, shape, number):
    return torch.randn(shape, generator=torch.Generator().manual_seed(100 * step + number))


def move_apart(optimizer, groups, name, step):
    set_rates(optimizer, name)
    for number, parameter in enumerate(parameter for group in groups.values() for parameter in group):
        parameter.grad = drawn(step, parameter.shape, number)
    optimizer.step()


def move_flat(flat, groups, name, step):
    set_rates(flat, name)
    packs = packs_of(groups)
    gradients = [drawn(step, shape, number) for number, shape in enumerate(SHAPES)]
    flat.leaf(packs[0]).grad = torch.cat([gradients[0], gradients[2]])
    flat.leaf(packs[1]).grad = gradients[1]
    for parameter, gradient in zip(groups["text encoder"], gradients[3:], strict=True):
        parameter.grad = gradient
    flat.gather()
    flat.optimizer.step()
    flat.zero_grad()


def both(name, steps=20):
    apart, together = weights(), weights()
    optimizer = build(name)(apart)
    flat = Flat(together, packs_of(together), torch.float32, build(name))
    for step in range(steps):
        move_apart(optimizer, apart, name, step)
        move_flat(flat, together, name, step)
    return apart, optimizer, together, flat


def assert_alike(first, second):
    for own, other in zip([p for g in first.values() for p in g], [p for g in second.values() for p in g], strict=True):
        assert (own - other).detach().norm() <= 1e-6 * other.detach().norm() and own.detach().abs().max() > 0


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_twenty_steps_move_as_those_of_weights_by_themselves(name):
    apart, _, together, _ = both(name)
    assert_alike(together, apart)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_a_state_of_weights_by_themselves_goes_on_in_one_tensor_and_back(name):
    apart, optimizer, _, _ = both(name, 3)
    together = {group: [torch.nn.Parameter(parameter.detach().clone()) for parameter in own] for group, own in apart.items()}
    flat = Flat(together, packs_of(together), torch.float32, build(name))
    flat.load_state_dict(optimizer.state_dict())
    for step in range(3, 8):
        move_apart(optimizer, apart, name, step)
        move_flat(flat, together, name, step)
    assert_alike(together, apart)
    state, other = flat.state_dict(), optimizer.state_dict()
    assert [group["params"] for group in state["param_groups"]] == [group["params"] for group in other["param_groups"]]
    assert state["state"].keys() == other["state"].keys()
    again = {group: [torch.nn.Parameter(parameter.detach().clone()) for parameter in own] for group, own in together.items()}
    resumed = Flat(again, packs_of(again), torch.float32, build(name))
    resumed.load_state_dict(state)
    for step in range(8, 11):
        move_flat(flat, together, name, step)
        move_flat(resumed, again, name, step)
    assert all(torch.equal(own, other) for own, other in zip(again["unet"], together["unet"], strict=True))


def test_adamws_state_has_the_form_of_weights_by_themselves():
    _, optimizer, _, flat = both("adamw", 4)
    ours, theirs = flat.state_dict()["state"], optimizer.state_dict()["state"]
    for number, state in theirs.items():
        assert ours[number].keys() == state.keys()
        for name, value in state.items():
            assert ours[number][name].shape == value.shape
            torch.testing.assert_close(ours[number][name], value)


def test_a_state_of_other_groups_is_refused():
    groups = weights()
    flat = Flat(groups, [], torch.float32, build("adamw"))
    state = flat.state_dict()
    state["param_groups"][0]["params"] = [0]
    with pytest.raises(ValueError, match="1 weights in a group of 3"):
        flat.load_state_dict(state)


def test_what_computes_in_16_bits_is_the_weights_rounded_and_its_gradients_are_summed_in_float32():
    groups = weights()
    flat = Flat(groups, packs_of(groups), torch.bfloat16, build("adamw"))
    flat.refresh()
    first, _, second = groups["unet"]
    leaf = flat.leaf([first, second])
    assert leaf.dtype == torch.bfloat16 and torch.equal(leaf.detach(), torch.cat([first, second]).detach().bfloat16())
    first.data.add_(1)
    assert not torch.equal(leaf[:3].detach(), first.detach().bfloat16())
    flat.refresh()
    assert torch.equal(leaf[:3].detach(), first.detach().bfloat16())
    small = torch.full_like(leaf, 1 + 2**-7)
    for factor in (256.0, 1.0):
        leaf.grad = (small.detach() * factor).bfloat16()
        groups["text encoder"][0].grad = torch.full((5, 3), 0.5 * factor)  # a weight that computes by itself, in float32
        flat.gather()
    views = flat.groups["unet"].split(flat.wholes["unet"].grad)
    assert torch.equal(views[0], torch.full((3, 8), 257 * (1 + 2**-7)))  # 16 bits would have rounded the sum
    assert not views[1].any()
    assert torch.equal(flat.groups["text encoder"].split(flat.wholes["text encoder"].grad)[0], torch.full((5, 3), 128.5))


def test_weights_that_nothing_asked_for_do_not_decay():
    groups = weights(zeros=False)
    flat = Flat(groups, packs_of(groups), torch.float32, build("adamw"))
    first, up, second = groups["unet"]
    before = [parameter.detach().clone() for parameter in groups["unet"]]
    set_rates(flat, "adamw")
    flat.leaf([first, second]).grad = torch.ones(6, 8)
    flat.gather()
    with flat.holding_still():
        flat.optimizer.step()
    flat.zero_grad()
    assert torch.equal(up, before[1]) and not torch.equal(first, before[0]) and not torch.equal(second, before[2])


def test_an_average_follows_in_one_tensor_and_changes_places_with_the_weights():
    groups = weights(zeros=False)
    named = {f"{group}{number}": parameter for group, own in groups.items() for number, parameter in enumerate(own)}
    flat = Flat(groups, packs_of(groups), torch.float32, build("adamw"))
    apart = {name: torch.nn.Parameter(parameter.detach().clone()) for name, parameter in named.items()}
    ours, theirs = Ema(named, 0.9, flat), Ema(apart, 0.9)
    for step in range(1, 4):
        for one, other in zip(named.values(), apart.values(), strict=True):
            one.data.add_(step)
            other.data.add_(step)
        ours.update(step)
        theirs.update(step)
    assert len(ours.tensors) == 2 and ours.average.keys() == theirs.average.keys()
    before = [parameter.detach().clone() for parameter in named.values()]
    with ours.applied(), theirs.applied():
        assert all(torch.allclose(own, other) for own, other in zip(named.values(), apart.values(), strict=True))
        flat.refresh()
        assert torch.equal(flat.leaf([groups["unet"][0], groups["unet"][2]])[:3].detach(), groups["unet"][0].detach())
    assert all(torch.equal(own, other) for own, other in zip(named.values(), before, strict=True))
