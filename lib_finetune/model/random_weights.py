"""A checkpoint with SD1.5's layout and random weights: the model of the self-test, of the tests, and of measurements of size and speed."""

from __future__ import annotations

import torch

from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.layout import Layout


def sd15_layout(
    unet: tuple[int, ...] = (320, 640, 1280, 1280),
    vae: tuple[int, int, int, int] = (128, 256, 512, 512),
    text: int = 768,
    text_layers: int = 12,
    vae_layers: int = 2,
    text_heads: int | None = None,
) -> Layout:
    """SD1.5's layout, at its own widths by default.

    Args:
        unet, vae: channels of the levels, multiples of 32; SD1.5 has four of each.
        text: width of the text encoder, a multiple of 64 by default heads.
    """
    return Layout(
        unet={
            "in_channels": 4,
            "out_channels": 4,
            "block_out_channels": unet,
            "layers_per_block": 2,
            "cross_attention_dim": text,
            "attention_head_dim": 8,
            "down_block_types": ("CrossAttnDownBlock2D",) * (len(unet) - 1) + ("DownBlock2D",),
            "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (len(unet) - 1),
        },
        vae={
            "in_channels": 3,
            "out_channels": 3,
            "latent_channels": 4,
            "block_out_channels": vae,
            "layers_per_block": vae_layers,
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4,
        },
        text={
            "vocab_size": 49408,
            "hidden_size": text,
            "projection_dim": text,
            "intermediate_size": 4 * text,
            "num_hidden_layers": text_layers,
            "num_attention_heads": text_heads or max(1, text // 64),
            "max_position_embeddings": 77,
            "hidden_act": "quick_gelu",
            "bos_token_id": 49406,
            "eos_token_id": 49407,
            "pad_token_id": 49407,
        },
    )


def tiny_layout() -> Layout:
    """The smallest layout with SD1.5's names: a training step takes some 10 ms."""
    return sd15_layout(unet=(32, 32, 64, 64), vae=(32, 32, 32, 32), text=32, text_layers=2, vae_layers=1, text_heads=2)


def small_layout() -> Layout:
    """Two of the UNet's four levels, for tests of what does not depend on them: a third of the time, and all names are still SD1.5's."""
    return sd15_layout(unet=(32, 64), vae=(32, 32, 32, 32), text=32, text_layers=2, vae_layers=1, text_heads=2)


def random_checkpoint(layout: Layout, seed: int, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Tensors of a checkpoint under LDM names: norms at one, other weights uniform with a gain that keeps activations in range."""
    model = BorrowedModel(layout)
    generator = torch.Generator().manual_seed(seed)
    return {slot.source: _random(slot.source, slot.shape, generator).to(dtype) for slot in model.slots}


def _random(name: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    if len(shape) == 1:
        # The WebUI divides by the mean of the text encoder's output, which a bias of zero leaves at about zero.
        bias = 0.25 if name.endswith("final_layer_norm.bias") else 0.0
        return torch.ones(shape) if name.endswith("weight") else torch.full(shape, bias)
    fan_in = int(torch.Size(shape[1:]).numel())
    bound = 0.02 if "embedding" in name else fan_in**-0.5
    values = torch.empty(shape).uniform_(-bound, bound, generator=generator)
    # LDM keeps the autoencoder's attention as 1×1 convolutions.
    return values[:, :, None, None] if ".attn_1." in name else values
