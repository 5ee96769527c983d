"""Which modules of the borrowed view get a patch. The set is that of kohya's sd-scripts for SD1.5 (192 UNet and 72 text modules)."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from lib_finetune.model.names import kohya_module
from lib_finetune.training.adapters.adapter import Target

_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
_TEXT = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
_RESIDUAL = ("conv1", "conv2", "conv_shortcut", "time_emb_proj", "downsamplers.0.conv", "upsamplers.0.conv")


def unet_targets(unet: nn.Module, layers: str, rank: int, alpha: float, conv_rank: int, conv_alpha: float) -> list[Target]:
    """Targets of the UNet.

    Args:
        layers: "all" patches attention, feed-forward and projections, "attention" the attention only.
        conv_rank: of 3×3 convolutions; 0 leaves the residual blocks and samplers alone. Their 1×1 convolutions and time
            projections then take ``rank``, as kohya's LoCon does.
    """
    targets = []
    for name, module in _patchable(unet):
        if ".attentions." in name:
            if layers == "all" or name.endswith(_ATTENTION):
                targets.append(_target("unet", name, rank, alpha))
        elif conv_rank and name.endswith(_RESIDUAL):
            large = isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1)
            targets.append(_target("unet", name, conv_rank if large else rank, conv_alpha if large else alpha))
    return targets


def text_targets(text: nn.Module, rank: int, alpha: float) -> list[Target]:
    """Targets of the text encoder: attention and feed-forward of every layer."""
    return [_target("text", name, rank, alpha) for name, _ in _patchable(text) if name.endswith(_TEXT)]


def _patchable(root: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((name, module) for name, module in root.named_modules() if isinstance(module, nn.Linear | nn.Conv2d))


def _target(part: str, name: str, rank: int, alpha: float) -> Target:
    return Target(part, name, kohya_module(part, name), rank, alpha)
