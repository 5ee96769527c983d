"""Names of the same weight in three worlds: the original SD files (LDM), diffusers/transformers, and kohya's LoRA files.

The rules are those of the two implementations' constructors: LDM numbers a UNet's blocks through, diffusers numbers
levels and layers. The tests compare the outcome with diffusers' own converter and with a list of SD1.5's weights.
kohya's names: sd-scripts, as the WebUI's `extensions-builtin/Lora/networks.py` reads them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lib_finetune.model.layout import TEXT, UNET, VAE

KOHYA_UNET = "lora_unet_"
KOHYA_TEXT = "lora_te_text_model_"

_UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
_RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_VAE_WORDS = (
    ("mid_block.resnets.0", "mid.block_1"),
    ("mid_block.resnets.1", "mid.block_2"),
    ("mid_block.attentions.0", "mid.attn_1"),
    ("group_norm", "norm"),
    ("to_q", "q"),
    ("to_k", "k"),
    ("to_v", "v"),
    ("to_out.0", "proj_out"),
    ("conv_norm_out", "norm_out"),
    ("conv_shortcut", "nin_shortcut"),
    ("downsamplers.0", "downsample"),
    ("upsamplers.0", "upsample"),
    ("resnets", "block"),
)


def unet_to_ldm(name: str, layers: int, up_attends: Sequence[bool]) -> str:
    """diffusers UNet name → LDM name.

    Args:
        layers: residual blocks a level (2).
        up_attends: which of the up blocks, in diffusers' order, have attention.
    """
    for ours, theirs in _UNET_ENDS.items():
        if name.startswith(ours + "."):
            return UNET + theirs + _inside(name[len(ours) :])
    match = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)(\..+)", name)
    if match is None:
        raise ValueError(f"{name} is no weight of an SD1.x UNet")
    way, level, kind, place, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
    first = level * (layers + 1)
    if kind == "downsamplers":
        return f"{UNET}input_blocks.{first + layers + 1}.0.op{rest.removeprefix('.conv')}"
    if kind == "upsamplers":
        return f"{UNET}output_blocks.{first + layers}.{2 if up_attends[level] else 1}{rest}"
    block = f"input_blocks.{first + place + 1}" if way == "down" else f"output_blocks.{first + place}"
    return f"{UNET}{block}.{0 if kind == 'resnets' else 1}{_inside(rest)}"


def _inside(rest: str) -> str:
    """ ".norm1.weight" of a residual block → ".in_layers.0.weight"; attention blocks are named alike in both worlds."""
    head, _, tail = rest[1:].partition(".")
    return f".{_RESIDUAL[head]}.{tail}" if head in _RESIDUAL and "." not in tail else rest


def vae_to_ldm(name: str, levels: int) -> str:
    """diffusers autoencoder name → LDM name."""
    name = name.replace("down_blocks", "down")
    name = re.sub(r"up_blocks\.(\d+)", lambda match: f"up.{levels - 1 - int(match[1])}", name)
    for ours, theirs in _VAE_WORDS:
        name = re.sub(rf"(?<![a-z_]){re.escape(ours)}(?![a-z_0-9])", theirs, name)
    return VAE + name


def text_to_ldm(name: str) -> str:
    """Name below the text transformer → LDM name."""
    return f"{TEXT}text_model.{name}"


def kohya_module(part: str, module: str) -> str:
    """kohya's name of a module: ("unet", "down_blocks.0.…to_q") → "lora_unet_down_blocks_0_…_to_q".

    Args:
        part: "unet" or "text"; text modules are named below the text transformer.
    """
    return (KOHYA_UNET if part == "unet" else KOHYA_TEXT) + module.replace(".", "_")
