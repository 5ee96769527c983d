"""LoKr, Kronecker products, from lycoris-lora. Yeh et al., Navigating Text-To-Image Customization, arXiv 2309.14859."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from lib_finetune.training.adapters.adapter import ADAPTERS, AdapterOptions, Target
from lib_finetune.training.adapters.lycoris_layer import LycorisAdapter, attach, layer_class


@ADAPTERS.register("lokr")
def build(roots: Mapping[str, nn.Module], targets: Sequence[Target], options: AdapterOptions) -> LycorisAdapter:
    """See `adapters.lora.build`; ``options.factor`` splits the weights.

    Raises:
        DependencyError: lycoris-lora is missing.
    """
    layer = layer_class("lokr", "LokrModule")
    return attach(
        roots,
        targets,
        lambda target, module: layer(
            target.kohya, module, lora_dim=target.rank, alpha=target.alpha, factor=options.factor, bypass_mode=True
        ),
        options.dropout,
    )
