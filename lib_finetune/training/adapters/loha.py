"""LoHa, Hadamard products of low-rank matrices, from lycoris-lora. Hyeon-Woo et al., FedPara, arXiv 2108.06098."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from lib_finetune.training.adapters.adapter import ADAPTERS, AdapterOptions, Target
from lib_finetune.training.adapters.lycoris_layer import LycorisAdapter, attach, layer_class


@ADAPTERS.register("loha")
def build(roots: Mapping[str, nn.Module], targets: Sequence[Target], options: AdapterOptions) -> LycorisAdapter:
    """See `adapters.lora.build`.

    Raises:
        DependencyError: lycoris-lora is missing.
    """
    layer = layer_class("loha", "LohaModule")
    return attach(
        roots,
        targets,
        lambda target, module: layer(target.kohya, module, lora_dim=target.rank, alpha=target.alpha, bypass_mode=True),
        options.dropout,
    )
