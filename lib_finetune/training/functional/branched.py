"""Low-rank branches beside frozen layers, in as few operations as can be: products add themselves to what is there, and scale as they go.

Layers of one input share one product on the branches' narrow side. y_i = W_i·x + b_i + scale · B_i·(A_i·x), Hu et al., arXiv 2106.09685.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional


class Base(NamedTuple):
    """A frozen linear layer: weight [out, in] and bias [out] or None."""

    weight: torch.Tensor
    bias: torch.Tensor | None


def linear(
    x: torch.Tensor, bases: Sequence[Base], down: torch.Tensor, ups: Sequence[torch.Tensor], scale: float
) -> tuple[torch.Tensor, ...]:
    """Outputs of linear layers of one input, each with its branch; [..., in] → [..., out_i].

    Args:
        x: under autocast of any type, else of that of the bases.
        down: A of all of them, one below the other, [n · r, in].
        ups: B of each, [out_i, r].
    """
    dtype = compute_dtype(x)
    rest = [value if value is None else value.to(dtype) for base in bases for value in base]
    outcome: tuple[torch.Tensor, ...] = _Linear.apply(x.to(dtype), down.to(dtype), scale, len(bases), *rest, *[up.to(dtype) for up in ups])
    return outcome


def pointwise(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, down: torch.Tensor, up: torch.Tensor, scale: float) -> Any:
    """Output of a 1×1 convolution with its branch; [b, in, h, w], contiguous → [b, out, h, w].

    Args:
        weight: [out, in, 1, 1].
        down, up: [r, in] and [out, r].
    """
    dtype = compute_dtype(x)
    cast_bias = None if bias is None else bias.to(dtype)
    return _Pointwise.apply(x.to(dtype), weight.to(dtype), cast_bias, down.to(dtype), up.to(dtype), scale)


def compute_dtype(x: torch.Tensor) -> torch.dtype:
    """The type that a product with ``x`` is computed in here: autocast's where it is on."""
    kind = x.device.type
    if hasattr(torch, "get_autocast_dtype"):
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    if kind == "cpu":  # torch before 2.4 asks for each device by a name of its own
        return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else x.dtype
    return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else x.dtype


class _Linear(torch.autograd.Function):
    """`linear`, all of one type."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, down: torch.Tensor, scale: float, count: int, *rest: Any) -> Any:
        weights, biases, ups = rest[0 : 2 * count : 2], rest[1 : 2 * count : 2], rest[2 * count :]
        flat = x.reshape(-1, x.shape[-1])
        inner = flat @ down.t()
        outputs = []
        for weight, bias, up, own in zip(weights, biases, ups, inner.split(inner.shape[1] // count, dim=1), strict=True):
            output = functional.linear(flat, weight, bias).addmm_(own, up.t(), alpha=scale)
            outputs.append(output.view(*x.shape[:-1], -1))
        ctx.save_for_backward(x, down, inner, *weights, *ups)
        ctx.scale, ctx.count = scale, count
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        x, down, inner, *rest = ctx.saved_tensors
        count, scale, needs = ctx.count, ctx.scale, ctx.needs_input_grad
        weights, ups, flat = rest[:count], rest[count:], x.reshape(-1, x.shape[-1])
        outer = [gradient.reshape(-1, gradient.shape[-1]) for gradient in gradients]
        inner_gradient = torch.empty_like(inner)
        for gradient, up, own in zip(outer, ups, inner_gradient.split(inner.shape[1] // count, dim=1), strict=True):
            torch.addmm(own, gradient, up, beta=0, alpha=scale, out=own)
        up_gradients = [
            torch.addmm(up, gradient.t(), own, beta=0, alpha=scale) if needed else None
            for gradient, up, own, needed in zip(
                outer, ups, inner.split(inner.shape[1] // count, dim=1), needs[4 + 2 * count :], strict=True
            )
        ]
        down_gradient = inner_gradient.t() @ flat if needs[1] else None
        x_gradient = None
        if needs[0]:
            x_gradient = outer[0] @ weights[0]
            for gradient, weight in zip(outer[1:], weights[1:], strict=True):
                x_gradient.addmm_(gradient, weight)
            x_gradient = x_gradient.addmm_(inner_gradient, down).view(x.shape)
        return x_gradient, down_gradient, None, None, *[None] * (2 * count), *up_gradients


class _Pointwise(torch.autograd.Function):
    """`pointwise`, all of one type."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: Any, down: torch.Tensor, up: torch.Tensor, scale: float) -> Any:
        count = len(x)
        inner = torch.bmm(_for_each(down, count), x.flatten(2))
        output = functional.conv2d(x, weight, bias).contiguous()
        output.flatten(2).baddbmm_(_for_each(up, count), inner, alpha=scale)
        ctx.save_for_backward(x, weight, down, up, inner)
        ctx.scale = scale
        return output

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        x, weight, down, up, inner = ctx.saved_tensors
        count, needs, gradient = len(x), ctx.needs_input_grad, gradient.contiguous()
        outer = gradient.flatten(2)
        inner_gradient = torch.baddbmm(inner, _for_each(up.t(), count), outer, beta=0, alpha=ctx.scale)
        up_gradient = _summed(up, outer, inner, ctx.scale) if needs[4] else None
        down_gradient = _summed(down, inner_gradient, x.flatten(2), 1.0) if needs[3] else None
        x_gradient = None
        if needs[0]:
            mask = [True, False, False]
            x_gradient = torch.ops.aten.convolution_backward(gradient, x, weight, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, mask)[0]
            x_gradient = x_gradient.contiguous()
            x_gradient.flatten(2).baddbmm_(_for_each(down.t(), count), inner_gradient)
        return x_gradient, None, None, down_gradient, up_gradient, None


def _for_each(matrix: torch.Tensor, count: int) -> torch.Tensor:
    """A matrix for each image of a batch, without a copy."""
    return matrix.expand(count, *matrix.shape)


def _summed(like: torch.Tensor, left: torch.Tensor, right: torch.Tensor, scale: float) -> torch.Tensor:
    """scale · Σ over images of left · rightᵀ; [b, m, p] and [b, n, p] → [m, n]."""
    if len(left) == 1:
        return torch.addmm(like, left[0], right[0].t(), beta=0, alpha=scale)
    each = torch.baddbmm(_for_each(like, len(left)), left, right.transpose(1, 2), beta=0, alpha=scale)
    return each.sum(0)
