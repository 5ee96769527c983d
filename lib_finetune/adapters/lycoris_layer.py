"""Adapters whose layers come from lycoris-lora; attached to the view's modules in bypass mode (base output plus branch)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from lib_finetune.adapters.adapter import Target
from lib_finetune.errors import DependencyError, Problem


class LycorisAdapter:
    """Layers of one lycoris algorithm."""

    network_module = "lycoris.kohya"

    def __init__(self, layers: Sequence[tuple[Target, Any]]) -> None:
        self._layers = list(layers)

    def parameters(self, part: str) -> Mapping[str, nn.Parameter]:
        """See `Adapter.parameters`."""
        return {
            f"{target.kohya}.{name}": weight
            for target, layer in self._layers
            if target.part == part
            for name, weight in layer.named_parameters()
            if weight.requires_grad
        }

    def state(self) -> dict[str, torch.Tensor]:
        """See `Adapter.state`."""
        tensors = {f"{target.kohya}.{name}": value.detach() for target, layer in self._layers for name, value in layer.state_dict().items()}
        return dict(sorted(tensors.items()))

    def train(self, mode: bool) -> None:
        """See `Adapter.train`."""
        for _, layer in self._layers:
            layer.train(mode)


def attach(
    roots: Mapping[str, nn.Module], targets: Sequence[Target], make: Callable[[Target, nn.Module], Any], dropout: float
) -> LycorisAdapter:
    """Make a layer for each target and put it in front of the module's own forward.

    Args:
        make: (target, module of the view) → lycoris layer, in bypass mode.
        dropout: on the branch's output; set here because lycoris prints a warning that is wrong for bypass mode.
    """
    layers = []
    for target in targets:
        module = roots[target.part].get_submodule(target.module)
        layer = make(target, module)
        layer.drop = nn.Dropout(dropout) if dropout else nn.Identity()
        layer.to(device=module.weight.device, dtype=torch.float32)
        layer.apply_to()
        layers.append((target, layer))
    return LycorisAdapter(layers)


def layer_class(module: str, name: str) -> Any:
    """A layer class of lycoris-lora.

    Raises:
        DependencyError: lycoris-lora is missing or cannot be imported.
    """
    import importlib

    try:
        return getattr(importlib.import_module(f"lycoris.modules.{module}"), name)
    except (ImportError, AttributeError, RuntimeError) as error:
        hint = f"{module} needs lycoris-lora, which cannot be used here ({error}). Add it with: pip install --no-deps lycoris-lora==3.4.0"
        raise DependencyError([Problem("network.adapter", hint)]) from error
