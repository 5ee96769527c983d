"""LoRA and LoCon, injected by peft. Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, arXiv 2106.09685."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from lib_finetune.training.adapters.adapter import ADAPTERS, AdapterOptions, Target

_NAME = "default"


class LoraAdapter:
    """Low-rank branches B·A beside linear layers and convolutions."""

    network_module = "networks.lora"

    def __init__(self, layers: Sequence[tuple[Target, Any]]) -> None:
        self._layers = list(layers)

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
        try:
            yield
        finally:
            for layer, forward in branched:
                layer.forward = forward


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
        _prepare(layer, target)
    return LoraAdapter(layers)


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


def _prepare(layer: Any, target: Target) -> None:
    down, up = layer.lora_A[_NAME], layer.lora_B[_NAME]
    for branch in (down, up):
        branch.float()  # peft follows the base's dtype; a 16-bit weight loses small steps
        branch.requires_grad_(True)
    # peft's own forward copies every input to float32 beside a 16-bit base; this one computes in the input's dtype.
    scale = _scale(target)
    branch = _conv_branch if isinstance(down, nn.Conv2d) else _linear_branch
    base, dropout = layer.base_layer, layer.lora_dropout[_NAME]

    def forward(x: torch.Tensor, *_args: Any, **_kwargs: Any) -> torch.Tensor:
        return base(x) + branch(dropout(x), down, up, scale)

    layer.forward = forward


def _scale(target: Target) -> float:
    return target.alpha / target.rank


def _linear_branch(x: torch.Tensor, down: Any, up: Any, scale: float) -> torch.Tensor:
    inner = functional.linear(x, down.weight.to(x.dtype))
    # The scale is folded into the narrow side: rank × in numbers instead of one pass over the output.
    return functional.linear(inner * scale, up.weight.to(inner.dtype))


def _conv_branch(x: torch.Tensor, down: Any, up: Any, scale: float) -> torch.Tensor:
    inner = functional.conv2d(x, down.weight.to(x.dtype), stride=down.stride, padding=down.padding)
    return functional.conv2d(inner * scale, up.weight.to(inner.dtype))
