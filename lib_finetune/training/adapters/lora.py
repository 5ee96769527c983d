"""LoRA and LoCon, injected by peft. Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, arXiv 2106.09685."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from lib_finetune.training.adapters.adapter import ADAPTERS, AdapterOptions, Leaf, Target
from lib_finetune.training.adapters.lora_branches import Branches, attend_together, is_pointwise, together_with

_NAME = "default"


class LoraAdapter:
    """Low-rank branches B·A beside linear layers and convolutions."""

    network_module = "networks.lora"

    def __init__(self, layers: Sequence[tuple[Target, Any]], branches: Sequence[Branches] = ()) -> None:
        """
        Args:
            branches: of the layers whose branch is a product of matrices.
        """
        self._layers = list(layers)
        self._branches = list(branches)

    def parameters(self, part: str) -> Mapping[str, nn.Parameter]:
        """See `Adapter.parameters`."""
        return {
            f"{target.kohya}.{name}": weight
            for target, layer in self._layers
            if target.part == part
            for name, weight in (("lora_down.weight", layer.lora_A[_NAME].weight), ("lora_up.weight", layer.lora_B[_NAME].weight))
        }

    def scales(self, part: str) -> Mapping[str, float]:
        """See `Adapter.scales`."""
        by_module = {target.kohya: _scale(target) for target, _ in self._layers}
        return {name: by_module[name.partition(".")[0]] for name in self.parameters(part)}

    def packs(self) -> Sequence[Sequence[nn.Parameter]]:
        """See `Adapter.packs`."""
        return [pack for branches in self._branches for pack in branches.packs]

    def sit(self, leaf: Leaf) -> None:
        """See `Adapter.sit`."""
        for branches in self._branches:
            branches.sit(leaf)

    def state(self) -> dict[str, torch.Tensor]:
        """See `Adapter.state`."""
        tensors = {name: weight.detach() for part in ("unet", "text") for name, weight in self.parameters(part).items()}
        alphas = {f"{target.kohya}.alpha": torch.tensor(float(target.alpha)) for target, _ in self._layers}
        return dict(sorted({**tensors, **alphas}.items()))

    def train(self, mode: bool) -> None:
        """See `Adapter.train`."""
        for _, layer in self._layers:
            layer.train(mode)

    @contextmanager
    def off(self) -> Iterator[None]:
        """See `Adapter.off`."""
        branched = [(layer, layer.forward) for _, layer in self._layers]
        for layer, _ in branched:
            layer.forward = layer.base_layer.forward
        for branches in self._branches:
            branches.silent = True
        try:
            yield
        finally:
            for layer, forward in branched:
                layer.forward = forward
            for branches in self._branches:
                branches.silent = False


@ADAPTERS.register("lora")
def build(roots: Mapping[str, nn.Module], targets: Sequence[Target], options: AdapterOptions) -> LoraAdapter:
    """Inject branches into the view, which is bound to weights.

    Args:
        roots: "unet" and "text" roots of the borrowed view.
        targets: modules to patch.
    """
    for part, root in roots.items():
        own = [target for target in targets if target.part == part]
        if own:
            _inject(root, own, options.dropout)
    layers = [(target, roots[target.part].get_submodule(target.module)) for target in targets]
    for target, layer in layers:
        _keep_float32(layer)
        layer.forward = _loose(layer, _scale(target))
    branches = [] if options.dropout else _put_together(roots, layers)  # dropout gives each branch another input than its base
    return LoraAdapter(layers, branches)


def _inject(root: nn.Module, targets: Sequence[Target], dropout: float) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=targets[0].rank,
        lora_alpha=targets[0].alpha,
        target_modules=[target.module for target in targets],
        rank_pattern={target.module: target.rank for target in targets if target.rank != targets[0].rank},
        alpha_pattern={target.module: target.alpha for target in targets if target.alpha != targets[0].alpha},
        lora_dropout=dropout,
    )
    inject_adapter_in_model(config, root, adapter_name=_NAME)


def _keep_float32(layer: Any) -> None:
    for branch in (layer.lora_A[_NAME], layer.lora_B[_NAME]):
        branch.float()  # peft follows the base's dtype; a 16-bit weight loses small steps
        branch.requires_grad_(True)


def _put_together(roots: Mapping[str, nn.Module], layers: Sequence[tuple[Target, Any]]) -> list[Branches]:
    """Have layers of one input compute their branches together, and each other layer whose branch is a product of matrices by itself."""
    groups: dict[tuple[str, str, tuple[str, ...]], dict[str, tuple[Target, Any]]] = {}
    for target, layer in layers:
        if isinstance(layer.base_layer, nn.Linear) or is_pointwise(layer.base_layer):
            parent, _, leaf = target.module.rpartition(".")
            groups.setdefault((target.part, parent, together_with(parent, leaf)), {})[leaf] = target, layer
    projections: dict[tuple[str, str], list[Branches]] = {}
    for (part, parent, names), group in groups.items():
        members = [group[name] for name in names]
        downs, ups = ([getattr(layer, kind)[_NAME] for _, layer in members] for kind in ("lora_A", "lora_B"))
        together = Branches([layer.base_layer for _, layer in members], downs, ups, _scale(members[0][0]))
        projections.setdefault((part, parent), []).append(together)
        if len(members) == 1:
            members[0][1].forward = _alone(together)
    for (part, parent), branches in projections.items():
        attend_together(roots[part].get_submodule(parent), branches)
    return [each for branches in projections.values() for each in branches]


def _alone(branches: Branches) -> Callable[..., torch.Tensor]:
    return lambda x, *_args, **_kwargs: branches(x)[0]


def _loose(layer: Any, scale: float) -> Callable[..., torch.Tensor]:
    """The forward of a layer by itself. peft's own copies every input to float32 beside a 16-bit base; this one computes in the input's dtype."""
    down, up = layer.lora_A[_NAME], layer.lora_B[_NAME]
    branch = _conv_branch if isinstance(down, nn.Conv2d) else _linear_branch
    base, dropout = layer.base_layer, layer.lora_dropout[_NAME]

    def forward(x: torch.Tensor, *_args: Any, **_kwargs: Any) -> torch.Tensor:
        return base(x) + branch(dropout(x), down, up, scale)

    return forward


def _scale(target: Target) -> float:
    return target.alpha / target.rank


def _linear_branch(x: torch.Tensor, down: Any, up: Any, scale: float) -> torch.Tensor:
    inner = functional.linear(x, down.weight.to(x.dtype))
    # The scale is folded into the narrow side: rank × in numbers instead of one pass over the output.
    return functional.linear(inner * scale, up.weight.to(inner.dtype))


def _conv_branch(x: torch.Tensor, down: Any, up: Any, scale: float) -> torch.Tensor:
    inner = functional.conv2d(x, down.weight.to(x.dtype), stride=down.stride, padding=down.padding)
    return functional.conv2d(inner * scale, up.weight.to(inner.dtype))
