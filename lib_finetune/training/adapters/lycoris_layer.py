"""Adapters whose layers come from lycoris-lora: the base's output plus a branch with the layer's own weight."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from lib_finetune.errors import DependencyError, Problem
from lib_finetune.training.adapters.adapter import Leaf, Target


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

    def scales(self, part: str) -> Mapping[str, float]:
        """See `Adapter.scales`; a LoKr of two full factors has the scale 1, whatever alpha and rank are."""
        by_module = {target.kohya: float(layer.scale) for target, layer in self._layers}
        return {name: by_module[name.partition(".")[0]] for name in self.parameters(part)}

    def packs(self) -> Sequence[Sequence[nn.Parameter]]:
        """None: lycoris' layers compute with the weights themselves."""
        return ()

    def sit(self, leaf: Leaf) -> None:
        """See `Adapter.sit`."""

    def state(self) -> dict[str, torch.Tensor]:
        """See `Adapter.state`."""
        tensors = {f"{target.kohya}.{name}": value.detach() for target, layer in self._layers for name, value in layer.state_dict().items()}
        return dict(sorted(tensors.items()))

    def train(self, mode: bool) -> None:
        """See `Adapter.train`."""
        for _, layer in self._layers:
            layer.train(mode)

    @contextmanager
    def off(self) -> Iterator[None]:
        """See `Adapter.off`."""
        for _, layer in self._layers:
            layer.silent = True
        try:
            yield
        finally:
            for _, layer in self._layers:
                layer.silent = False


def attach(
    roots: Mapping[str, nn.Module], targets: Sequence[Target], make: Callable[[Target, nn.Module], Any], dropout: float
) -> LycorisAdapter:
    """Make a layer for each target and put it in front of the module's own forward.

    Args:
        make: (target, module of the view) → lycoris layer.
        dropout: on the branch's output.
    """
    layers = []
    for target in targets:
        module = roots[target.part].get_submodule(target.module)
        with _quiet():
            layer = make(target, module)
        layer.drop, layer.silent = nn.Dropout(dropout) if dropout else nn.Identity(), False
        layer.to(device=module.weight.device, dtype=torch.float32)
        module.forward = _branched(module.forward, layer)  # type: ignore[method-assign]  # our view's module, not the host's
        layers.append((target, layer))
    return LycorisAdapter(layers)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence lycoris' warning on the console about a rank that fills a small layer, which is no fault."""
    logger = logging.getLogger("LyCORIS")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _branched(base: Callable[..., torch.Tensor], layer: Any) -> Callable[..., torch.Tensor]:
    """The base's forward plus drop(ΔW·x).

    lycoris' own bypass is not used: in 3.4.0 LoKr's leaves out alpha / rank and fails on convolutions, and none of them
    takes 16-bit inputs beside float32 weights.
    """

    def forward(x: torch.Tensor, *_args: Any, **_kwargs: Any) -> torch.Tensor:
        if layer.silent:
            return base(x)
        weight = layer.get_weight(layer.shape).to(x.dtype)
        branch: torch.Tensor = layer.drop(layer.op(x, weight, **layer.kw_dict))
        return base(x) + branch

    return forward


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
