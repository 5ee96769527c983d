"""Branches beside frozen layers: the plain formula's values and gradients, in few operations."""

import pytest
import torch
from torch.nn import functional

from bench.operations import _Counter
from lib_finetune.training.functional import branched
from lib_finetune.training.functional.branched import Base


def drawn(*shape, seed=0, dtype=torch.float64, grad=False):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)), dtype=dtype).requires_grad_(grad)


def linear_case(count, dtype=torch.float64, width=8):
    x = drawn(2, 5, width, dtype=dtype, grad=True)
    bases = [Base(drawn(6 + i, width, seed=i, dtype=dtype), drawn(6 + i, seed=i, dtype=dtype) if i else None) for i in range(count)]
    return (
        x,
        bases,
        drawn(count * 3, width, dtype=dtype, grad=True),
        [drawn(6 + i, 3, seed=9, dtype=dtype, grad=True) for i in range(count)],
    )


def plain_linear(x, bases, down, ups, scale):
    downs = down.chunk(len(bases))
    return tuple(
        functional.linear(x, base.weight, base.bias) + functional.linear(functional.linear(x, own) * scale, up)
        for base, own, up in zip(bases, downs, ups, strict=True)
    )


def gradients(outputs, inputs):
    total = sum((output * torch.arange(output.numel(), dtype=output.dtype).view(output.shape)).sum() for output in outputs)
    return torch.autograd.grad(total, inputs)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_linear_layers_of_one_input_give_the_plain_formula(count, monkeypatch):
    empty_like = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda tensor: empty_like(tensor).fill_(float("nan")))  # what reserved memory may hold
    x, bases, down, ups = linear_case(count)
    ours, theirs = branched.linear(x, bases, down, ups, 0.7), plain_linear(x, bases, down, ups, 0.7)
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other)
    for own, other in zip(gradients(ours, [x, down, *ups]), gradients(theirs, [x, down, *ups]), strict=True):
        torch.testing.assert_close(own, other)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_pointwise_convolution_gives_the_plain_formula(batch):
    x = drawn(batch, 8, 4, 4, grad=True)
    weight, bias, down, up = drawn(6, 8, 1, 1), drawn(6), drawn(3, 8, grad=True), drawn(6, 3, grad=True)
    ours = branched.pointwise(x, weight, bias, down, up, 0.7)
    inner = functional.conv2d(x, down[..., None, None]) * 0.7
    theirs = functional.conv2d(x, weight, bias) + functional.conv2d(inner, up[..., None, None])
    torch.testing.assert_close(ours, theirs)
    for own, other in zip(gradients([ours], [x, down, up]), gradients([theirs], [x, down, up]), strict=True):
        torch.testing.assert_close(own, other)


def test_an_input_and_weights_that_need_no_gradient_get_none():
    x, bases, down, ups = linear_case(2)
    x.requires_grad_(False)
    ups[1].requires_grad_(False)
    branched.linear(x, bases, down, ups, 1.0)[0].sum().backward()
    assert x.grad is None and ups[1].grad is None and down.grad is not None and ups[0].grad is not None


@pytest.mark.parametrize("kind", ["linear", "pointwise"])
def test_under_autocast_products_are_of_16_bits_and_gradients_of_the_weights_type(kind):
    down, up = drawn(3, 8, dtype=torch.float32, grad=True), drawn(6, 3, dtype=torch.float32, grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        if kind == "linear":
            x = drawn(2, 5, 8, dtype=torch.float32, grad=True)
            output = branched.linear(x, [Base(drawn(6, 8, dtype=torch.float32), None)], down, [up], 0.5)[0]
        else:
            x = drawn(1, 8, 4, 4, dtype=torch.float32, grad=True)
            output = branched.pointwise(x, drawn(6, 8, 1, 1, dtype=torch.float32), None, down, up, 0.5)
    assert output.dtype == torch.bfloat16
    output.float().sum().backward()
    assert {value.grad.dtype for value in (x, down, up)} == {torch.float32}


@pytest.mark.parametrize(("count", "most"), [(1, 8), (2, 13), (3, 18)])
def test_few_operations_forth_and_back(count, most):
    x, bases, down, ups = linear_case(count, torch.float32)
    outputs = [torch.zeros(0)]
    with _Counter() as counter:
        outputs = branched.linear(x, bases, down, ups, 0.5)
    forth = counter.counted.total
    ones = [torch.ones_like(output) for output in outputs]
    with _Counter() as counter:
        torch.autograd.grad(outputs, [x, down, *ups], ones)
    assert forth + counter.counted.total == most
