"""The layout of a checkpoint: which widths and depths its tensors have, and whether it is of a family that we train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lib_finetune.errors import CheckpointError, Problem
from lib_finetune.model import families, file_kinds

if TYPE_CHECKING:
    import torch

UNET = "model.diffusion_model."
VAE = "first_stage_model."
TEXT = "cond_stage_model.transformer."
PREFIXES = {"unet": UNET, "text": TEXT, "vae": VAE}
"""Part → how its tensors' names begin."""
_CLIP = TEXT + "text_model."
_BLOCKS = "input_blocks"
UNET_HEADS = 8  # SD1.x fixes the number of heads, not their width


@dataclass(frozen=True)
class Layout:
    """Constructor arguments of the diffusers and transformers modules that fit a checkpoint."""

    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    text: Mapping[str, Any]


def infer(tensors: Mapping[str, torch.Tensor], text_heads: int | None = None, activation: str = "quick_gelu") -> Layout:
    """Read the layout off the shapes of a checkpoint's tensors (names of the original SD files).

    Args:
        text_heads: attention heads of the text model; None takes CLIP's 64 channels a head.

    Raises:
        CheckpointError: another family (named), or weights that SD1.5 has are missing (named).
    """
    refuse_other_families(tensors)
    missing = [name for name in _ANCHORS if name not in tensors]
    if missing:
        kind = file_kinds.identify({name: tuple(tensor.shape) for name, tensor in tensors.items()}).phrase
        message = f"this {kind}: not a complete Stable Diffusion 1.x checkpoint, because {missing[0]} is missing. Load a complete one."
        raise CheckpointError([Problem("checkpoint", message)])
    try:
        return Layout(_unet(tensors), _vae(tensors), _text(tensors, text_heads, activation))
    except (IndexError, KeyError, ValueError) as error:  # a weight whose shape or whose neighbours no SD1.x has
        empty = next((name for name, tensor in tensors.items() if not tensor.numel()), None)
        reason = f"{empty} is empty" if empty else "one has a shape, or lacks a neighbour, as no such model has it"
        message = (
            f"this is no Stable Diffusion 1.x checkpoint: its weights do not belong together ({reason}). Use another file of this model."
        )
        raise CheckpointError([Problem("checkpoint", message)]) from error


_ANCHORS = (
    UNET + "input_blocks.0.0.weight",
    UNET + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",
    UNET + "out.2.weight",
    VAE + "encoder.conv_in.weight",
    VAE + "quant_conv.weight",
    _CLIP + "embeddings.token_embedding.weight",
    _CLIP + "final_layer_norm.weight",
)


def refuse_other_families(tensors: Mapping[str, torch.Tensor]) -> None:
    """
    Raises:
        CheckpointError: the weights are of a family that is not trained here, by its name.
    """
    if family := families.family({name: tuple(tensor.shape) for name, tensor in tensors.items()}):
        message = f"this is a model of {family.name}; Finetune trains Stable Diffusion 1.x (1.4, 1.5 and those made from them). Load such a checkpoint."
        raise CheckpointError([Problem("checkpoint", message)])


def _unet(tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    widths: list[int] = []
    layers = _count(tensors, UNET + "input_blocks.{}.0.in_layers.0.weight", start=1)
    levels = _levels(tensors)
    index = 1
    for _ in range(levels):
        widths.append(int(tensors[f"{UNET}{_BLOCKS}.{index}.0.out_layers.3.weight"].shape[0]))
        index += layers + 1
    attended = [f"{UNET}{_BLOCKS}.{1 + level * (layers + 1)}.1.norm.weight" in tensors for level in range(levels)]
    return {
        "in_channels": 4,
        "out_channels": int(tensors[UNET + "out.2.weight"].shape[0]),
        "block_out_channels": tuple(widths),
        "layers_per_block": layers,
        "cross_attention_dim": int(tensors[UNET + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"].shape[1]),
        "attention_head_dim": UNET_HEADS,
        "down_block_types": tuple("CrossAttnDownBlock2D" if has else "DownBlock2D" for has in attended),
        "up_block_types": tuple("CrossAttnUpBlock2D" if has else "UpBlock2D" for has in reversed(attended)),
    }


def _levels(tensors: Mapping[str, torch.Tensor]) -> int:
    return 1 + sum(name.startswith(UNET + _BLOCKS) and name.endswith(".0.op.weight") for name in tensors)


def _count(tensors: Mapping[str, torch.Tensor], pattern: str, start: int = 0) -> int:
    number = start
    while pattern.format(number) in tensors:
        number += 1
    return number - start


def _vae(tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    levels = _count(tensors, VAE + "encoder.down.{}.block.0.norm1.weight")
    widths = tuple(int(tensors[f"{VAE}encoder.down.{level}.block.0.conv2.weight"].shape[0]) for level in range(levels))
    return {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": int(tensors[VAE + "post_quant_conv.weight"].shape[0]),
        "block_out_channels": widths,
        "layers_per_block": _count(tensors, VAE + "encoder.down.0.block.{}.norm1.weight"),
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
    }


def _text(tensors: Mapping[str, torch.Tensor], heads: int | None, activation: str) -> dict[str, Any]:
    vocabulary, width = tensors[_CLIP + "embeddings.token_embedding.weight"].shape
    return {
        "vocab_size": int(vocabulary),
        "hidden_size": int(width),
        "projection_dim": int(width),
        "intermediate_size": int(tensors[_CLIP + "encoder.layers.0.mlp.fc1.weight"].shape[0]),
        "num_hidden_layers": _count(tensors, _CLIP + "encoder.layers.{}.layer_norm1.weight"),
        "num_attention_heads": heads or max(1, int(width) // 64),
        "max_position_embeddings": int(tensors[_CLIP + "embeddings.position_embedding.weight"].shape[0]),
        "hidden_act": activation,
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "pad_token_id": 49407,
    }


def text_heads_of(metadata: Mapping[str, str], tensors: Mapping[str, torch.Tensor], name: str) -> int | None:
    """Attention heads of the text encoder as a file of ours tells them; None where it tells none.

    Args:
        name: of the file.

    Raises:
        CheckpointError: what it tells cannot be.
    """
    text = metadata.get("text_encoder_heads")
    if not text:
        return None
    width = next((int(value.shape[-1]) for key, value in tensors.items() if key.startswith(TEXT) and value.ndim == 2), 0)
    heads = int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0
    if heads < 1 or (width and width % heads):
        message = (
            f"{name} says text_encoder_heads {text[:40]!r} in its metadata, into which {width} channels cannot be split. Name another file."
        )
        raise CheckpointError([Problem("checkpoint", message)])
    return heads
