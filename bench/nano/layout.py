"""What the nano checkpoint is made of: SD1.5's modules with small widths, as diffusers' and transformers' models.

Widths that both readers understand: the original layout multiplies one base width by whole numbers per level.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

VAE_WIDTH = 96
"""Of every level: GroupNorm has 32 groups, and with two channels a group flat colours are learned slowly."""
VAE_LEVELS = (1, 1, 1, 1)
VAE_RES_BLOCKS = 1
UNET_WIDTH = 64
UNET_LEVELS = (1, 1, 2, 2)
UNET_HEADS = 8
TEXT_WIDTH = 64
TEXT_LAYERS = 3
TEXT_HEADS = 1
"""CLIP has 64 channels a head, and readers that know only the shapes assume so."""
VOCABULARY = 49408
TOKENS = 77
LATENT_SCALE = 0.18215
"""What SD1.5 multiplies latents by; nano's autoencoder is folded so that they then have standard deviation 1."""


def new_autoencoder() -> AutoencoderKL:
    """The KL-f8 autoencoder, 4 latent channels, with fresh weights."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=tuple(VAE_WIDTH * level for level in VAE_LEVELS),
        layers_per_block=VAE_RES_BLOCKS,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        scaling_factor=LATENT_SCALE,
    )


def new_unet() -> UNet2DConditionModel:
    """SD1.5's UNet: four levels of two blocks, cross attention at the first three, fresh weights."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=tuple(UNET_WIDTH * level for level in UNET_LEVELS),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=UNET_HEADS,
    )


def new_text_model() -> CLIPTextModel:
    """CLIP's text model with its real vocabulary, fresh weights."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig(**text_config()))


def text_config() -> dict[str, object]:
    """The text model's configuration as `config.json` holds it."""
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": VOCABULARY,
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": TEXT_WIDTH * 4,
        "num_hidden_layers": TEXT_LAYERS,
        "num_attention_heads": TEXT_HEADS,
        "max_position_embeddings": TOKENS,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
        "projection_dim": TEXT_WIDTH,
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "pad_token_id": 49407,
    }
