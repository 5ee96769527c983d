"""The nano checkpoint as one file: SD1.5's original names, fp16, and what the WebUI and diffusers need beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_finetune.errors import CheckpointError
from lib_finetune.files import write_atomically
from lib_finetune.model.names import text_to_ldm, unet_to_ldm, vae_to_ldm

from . import layout

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

NAME = "nano-sd15"
FILE = Path(__file__).with_name(f"{NAME}.safetensors")
"""The trained checkpoint that comes with the project."""


def ldm_weights(unet: UNet2DConditionModel, vae: AutoencoderKL, text: CLIPTextModel) -> dict[str, torch.Tensor]:
    """All weights under the names of SD1.5's original files; the autoencoder's attention becomes 1×1 convolutions again."""
    attends = [hasattr(block, "attentions") for block in unet.up_blocks]
    weights = {unet_to_ldm(name, unet.config.layers_per_block, attends): value for name, value in unet.state_dict().items()}
    for name, value in vae.state_dict().items():
        is_attention = ".attentions." in name and value.ndim == 2
        weights[vae_to_ldm(name, len(vae.config.block_out_channels))] = value[:, :, None, None] if is_attention else value
    prefix = "text_model."
    text_weights = {name.removeprefix(prefix): value for name, value in text.state_dict().items() if not name.endswith("position_ids")}
    return weights | {text_to_ldm(name): value for name, value in text_weights.items()}


def write(path: Path, weights: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Write a checkpoint in fp16, whole or not at all."""
    from safetensors.torch import save

    halves = {name: value.detach().half().contiguous() for name, value in sorted(weights.items())}
    write_atomically(path, save(halves, metadata={"format": "pt", **metadata}))


def load(path: Path = FILE) -> tuple[UNet2DConditionModel, AutoencoderKL, CLIPTextModel]:
    """Read a nano checkpoint into float32 models, in eval mode.

    Raises:
        CheckpointError: the file is missing, or its weights are not those of a nano checkpoint.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise CheckpointError(f"The nano checkpoint {path} is missing. Train it with: python -m bench nano train")
    try:
        stored = load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is no safetensors file ({error}).") from error
    models = layout.new_unet(), layout.new_autoencoder(), layout.new_text_model()
    wanted = ldm_weights(*models)
    wrong = [name for name, value in wanted.items() if name not in stored or stored[name].numel() != value.numel()]
    if wrong or len(stored) != len(wanted):
        raise CheckpointError(
            f"{path} is no nano checkpoint of this version: {len(wrong)} weights are missing or of other sizes ({wrong[:1]})."
        )
    for name, value in wanted.items():  # the state dict's tensors share the models' storage
        value.copy_(stored[name].view(value.shape))
    unet, vae, text = (model.eval().requires_grad_(False) for model in models)
    return unet, vae, text


def webui_config(text_folder: Path) -> dict[str, Any]:
    """The original LDM configuration with nano's widths (after v1-inference.yaml of CompVis/stable-diffusion).

    Args:
        text_folder: holds the tokenizer's files and the text model's config.json.
    """
    unet = {
        "image_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": layout.UNET_WIDTH,
        "attention_resolutions": [4, 2, 1],
        "num_res_blocks": 2,
        "channel_mult": list(layout.UNET_LEVELS),
        "num_heads": layout.UNET_HEADS,
        "use_spatial_transformer": True,
        "transformer_depth": 1,
        "context_dim": layout.TEXT_WIDTH,
        "use_checkpoint": False,
        "legacy": False,
    }
    first_stage = {
        "double_z": True,
        "z_channels": 4,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": layout.VAE_WIDTH,
        "ch_mult": list(layout.VAE_LEVELS),
        "num_res_blocks": layout.VAE_RES_BLOCKS,
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    params = {
        "linear_start": 0.00085,
        "linear_end": 0.012,
        "num_timesteps_cond": 1,
        "log_every_t": 200,
        "timesteps": 1000,
        "first_stage_key": "jpg",
        "cond_stage_key": "txt",
        "image_size": 16,
        "channels": 4,
        "cond_stage_trainable": False,
        "conditioning_key": "crossattn",
        "monitor": "val/loss_simple_ema",
        "scale_factor": layout.LATENT_SCALE,
        "use_ema": False,
        "unet_config": {"target": "ldm.modules.diffusionmodules.openaimodel.UNetModel", "params": unet},
        "first_stage_config": {
            "target": "ldm.models.autoencoder.AutoencoderKL",
            "params": {
                "embed_dim": 4,
                "monitor": "val/rec_loss",
                "ddconfig": first_stage,
                "lossconfig": {"target": "torch.nn.Identity"},
            },
        },
        "cond_stage_config": {"target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder", "params": {"version": str(text_folder)}},
    }
    return {"model": {"base_learning_rate": 1.0e-04, "target": "ldm.models.diffusion.ddpm.LatentDiffusion", "params": params}}


def write_text_folder(folder: Path) -> None:
    """Write what transformers needs to build the text model and the tokenizer without a model hub."""
    from lib_finetune.text import tokenizer

    tokenizer.write_files(folder)
    write_atomically(folder / "config.json", json.dumps(layout.text_config(), indent=2).encode())


def write_diffusers_folder(folder: Path) -> None:
    """Write the configurations (no weights) that diffusers' ``from_single_file(file, config=folder)`` asks for."""
    from diffusers import DPMSolverMultistepScheduler

    layout.new_unet().save_config(folder / "unet")
    layout.new_autoencoder().save_config(folder / "vae")
    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    DPMSolverMultistepScheduler(**noise).save_config(folder / "scheduler")
    write_text_folder(folder / "tokenizer")
    write_atomically(folder / "text_encoder" / "config.json", json.dumps(layout.text_config(), indent=2).encode())
    index = {
        "_class_name": "StableDiffusionPipeline",
        "scheduler": ["diffusers", "DPMSolverMultistepScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
    }
    write_atomically(folder / "model_index.json", json.dumps(index, indent=2).encode())
