"""Branches of a LoRA at work: which layers share an input, and the attentions that hand it to them together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from lib_finetune.training.adapters.adapter import Leaf
from lib_finetune.training.functional import branched


class Branches:
    """Linear layers of one input with the branch of each, or a 1×1 convolution with its own.

    Attributes:
        silent: whether only the bases answer.
    """

    def __init__(self, bases: Sequence[Any], downs: Sequence[nn.Module], ups: Sequence[nn.Module], scale: float) -> None:
        self._bases = list(bases)
        self._downs, self._ups, self._scale = list(downs), list(ups), scale
        self._leaves: tuple[torch.Tensor, list[torch.Tensor]] | None = None
        self.silent = False

    def __len__(self) -> int:
        return len(self._bases)

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Outputs of the layers for one input."""
        if self.silent:
            return tuple(base(x) for base in self._bases)
        down, ups = self._matrices()
        if isinstance(self._bases[0], nn.Conv2d):
            return (self._convolved(x, self._bases[0], down, ups[0]),)
        return branched.linear(x, [branched.Base(base.weight, base.bias) for base in self._bases], down, ups, self._scale)

    def _convolved(self, x: torch.Tensor, base: nn.Conv2d, down: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        if x.is_contiguous():
            return branched.pointwise(x, base.weight, base.bias, down, up, self._scale)
        inner = functional.conv2d(x, down[..., None, None].to(x.dtype))  # channels last: its rows are no matrix
        output: torch.Tensor = base(x) + functional.conv2d(inner * self._scale, up[..., None, None].to(inner.dtype))
        return output

    @property
    def packs(self) -> list[list[nn.Parameter]]:
        """Weights that are to lie one behind the other."""
        return [_weights(self._downs), *([up] for up in _weights(self._ups))]

    def sit(self, leaf: Leaf) -> None:
        """Compute with what ``leaf`` gives for each of `packs`."""
        down, *ups = self.packs
        self._leaves = leaf(down), [leaf(up) for up in ups]

    def _matrices(self) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """A of all layers, [n · r, in], and B of each, [out, r]."""
        down, ups = self._leaves or (_joined(_weights(self._downs)), _weights(self._ups))
        return down.flatten(1), [up.flatten(1) for up in ups]


def _weights(layers: Sequence[Any]) -> list[nn.Parameter]:
    return [layer.weight for layer in layers]


def _joined(weights: Sequence[nn.Parameter]) -> torch.Tensor:
    return weights[0] if len(weights) == 1 else torch.cat(list(weights))


def is_pointwise(base: nn.Module) -> bool:
    """Whether a convolution looks at one point at a time."""
    if not isinstance(base, nn.Conv2d):
        return False
    return (base.kernel_size, base.stride, base.padding, base.dilation, base.groups) == ((1, 1), (1, 1), (0, 0), (1, 1), 1)


_SHARED = (("attn1", ("to_q", "to_k", "to_v")), ("attn2", ("to_k", "to_v")), ("self_attn", ("q_proj", "k_proj", "v_proj")))
"""How an attention's name ends, and its layers that have one input."""


def together_with(parent: str, leaf: str) -> tuple[str, ...]:
    """The layers below a module that share their input with one of its layers, that one too."""
    return next((names for end, names in _SHARED if parent.endswith(end) and leaf in names), (leaf,))


def attend_together(attention: Any, branches: Sequence[Branches]) -> None:
    """Have an attention ask for its projections together; another module stays as it is.

    Args:
        branches: of its projections, each with those that share an input.
    """
    widths = sorted((len(each) for each in branches), reverse=True)
    if hasattr(attention, "set_processor") and widths in ([3], [2, 1]):
        attention.set_processor(UnetAttention(*sorted(branches, key=len)))
    elif hasattr(attention, "q_proj"):
        attention.forward = ClipAttention(attention, max(branches, key=len))


class UnetAttention:
    """A processor of diffusers' attention that asks queries, keys and values for all their branches at once.

    Computes what diffusers' ``AttnProcessor2_0`` does for an attention without norms, masks and residual of its own.
    """

    def __init__(self, *projections: Branches) -> None:
        """
        Args:
            projections: to_q, to_k and to_v together, where the attention looks at its own input; else to_q, and to_k with to_v.
        """
        self._projections = projections

    def __call__(
        self, attention: Any, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor | None = None, attention_mask: Any = None
    ) -> torch.Tensor:
        """See diffusers' ``Attention.forward``."""
        query, key, value = self._projected(hidden_states, encoder_hidden_states)
        attended = functional.scaled_dot_product_attention(
            *(_headed(each, attention.heads) for each in (query, key, value)), attn_mask=attention_mask, dropout_p=0.0
        )
        output: torch.Tensor = attention.to_out[0](attended.transpose(1, 2).flatten(2))
        return output

    def _projected(self, own: torch.Tensor, other: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        if len(self._projections) == 1:
            return self._projections[0](own)
        query, key_value = self._projections
        return *query(own), *key_value(own if other is None else other)


class ClipAttention:
    """The forward of a CLIP text attention whose queries, keys and values are asked for at once; each token sees those before it."""

    def __init__(self, attention: Any, projections: Branches) -> None:
        self._projections = projections
        self._heads: int = attention.num_heads
        self._out = attention.out_proj

    def __call__(self, hidden_states: torch.Tensor, *_args: Any, **_kwargs: Any) -> tuple[torch.Tensor, None]:
        """See transformers' ``CLIPAttention.forward``."""
        heads = (_headed(each, self._heads) for each in self._projections(hidden_states))
        attended = functional.scaled_dot_product_attention(*heads, is_causal=True)
        return self._out(attended.transpose(1, 2).flatten(2)), None


def _headed(value: torch.Tensor, heads: int) -> torch.Tensor:
    """[b, n, heads · width] → [b, heads, n, width]."""
    return value.unflatten(-1, (heads, -1)).transpose(1, 2)
