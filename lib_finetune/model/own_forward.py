"""Layers of the view that compute by torch's functions, whatever has become of the forward of torch's classes.

Extensions of the WebUI (its own Lora among them) put forwards of theirs into `nn.Linear`, `nn.Conv2d` and the norms for the whole process.
In the view's layers these would look for patches at every call, and find none.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


def _linear(self: Any, x: torch.Tensor, *_args: Any, **_kwargs: Any) -> torch.Tensor:
    return functional.linear(x, self.weight, self.bias)


def _conv2d(self: Any, x: torch.Tensor, *_args: Any, **_kwargs: Any) -> torch.Tensor:
    return functional.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def _group_norm(self: Any, x: torch.Tensor) -> torch.Tensor:
    return functional.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


def _layer_norm(self: Any, x: torch.Tensor) -> torch.Tensor:
    return functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


_FORWARDS: dict[type[nn.Module], Any] = {
    nn.Linear: _linear,
    nn.Conv2d: _conv2d,
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
}

_KINDS: dict[type[nn.Module], type[nn.Module]] = {}
"""Class of a layer → the one with a forward of its own."""


def give(root: nn.Module) -> None:
    """Give the layers below a module forwards of their own. They stay instances of their classes."""
    for module in root.modules():
        kind = next((kind for kind in _FORWARDS if isinstance(module, kind)), None)
        if kind is not None:
            module.__class__ = _with_own_forward(type(module), kind)


def _with_own_forward(own: type[nn.Module], kind: type[nn.Module]) -> type[nn.Module]:
    if own not in _KINDS:
        _KINDS[own] = type(own.__name__, (own,), {"forward": _FORWARDS[kind], "__module__": own.__module__})
    return _KINDS[own]
