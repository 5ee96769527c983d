"""Names of the same weight in three worlds: the original SD files (LDM), diffusers/transformers, and kohya's LoRA files.

LDM → diffusers is left to diffusers' own converter, which is fed id-valued tensors so that the answer is a table.
Reference of kohya's names: the LoRA files of sd-scripts as the WebUI's `extensions-builtin/Lora/networks.py` reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from lib_finetune.model.layout import TEXT, UNET, VAE

_CLIP = TEXT + "text_model."
KOHYA_UNET = "lora_unet_"
KOHYA_TEXT = "lora_te_text_model_"


def unet_names(ldm_names: Iterable[str], config: Mapping[str, Any]) -> dict[str, str]:
    """diffusers name → LDM name for every UNet weight of a checkpoint.

    Args:
        ldm_names: names of the whole checkpoint; those of other parts are ignored.
        config: constructor arguments of the diffusers UNet (`Layout.unet`).
    """
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    return _table(convert_ldm_unet_checkpoint, [name for name in ldm_names if name.startswith(UNET)], config)


def vae_names(ldm_names: Iterable[str], config: Mapping[str, Any]) -> dict[str, str]:
    """diffusers name → LDM name for every autoencoder weight."""
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    return _table(convert_ldm_vae_checkpoint, [name for name in ldm_names if name.startswith(VAE)], config)


def text_names(ldm_names: Iterable[str]) -> dict[str, str]:
    """Name below the text transformer ("encoder.layers.0.…") → LDM name."""
    return {name[len(_CLIP) :]: name for name in ldm_names if name.startswith(_CLIP) and not name.endswith("position_ids")}


def _table(convert: Any, names: list[str], config: Mapping[str, Any]) -> dict[str, str]:
    numbered = {name: torch.full((1, 1, 1, 1), float(number)) for number, name in enumerate(names)}
    # The converter asks its config for block types and layers only.
    converted = convert(dict(numbered), config={"num_class_embeds": None, "class_embed_type": None, "addition_embed_type": None, **config})
    return {name: names[int(value.flatten()[0])] for name, value in converted.items()}


def kohya_module(part: str, module: str) -> str:
    """kohya's name of a module: ("unet", "down_blocks.0.…to_q") → "lora_unet_down_blocks_0_…_to_q".

    Args:
        part: "unet" or "text"; text modules are named below the text transformer.
    """
    return (KOHYA_UNET if part == "unet" else KOHYA_TEXT) + module.replace(".", "_")
