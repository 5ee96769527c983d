"""Families of models, told by the names and shapes of their tensors; one table for checkpoints, lone networks, LoRAs and embeddings.

Names are looked at with "_" for ".", so that a family's blocks are the same words in a checkpoint, in a lone network and in a LoRA. Facts on names:
ComfyUI's model detection, diffusers' single-file loader, and the files that kohya's and other trainers write.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Shapes = Mapping[str, tuple[int, ...]]
"""Names of tensors as they stand in the file → their shapes."""


@dataclass(frozen=True)
class Family:
    """Models that share their weights' names and sizes.

    Attributes:
        tells: names of which one is enough to know it.
    """

    name: str
    tells: re.Pattern[str]


def _family(name: str, *tells: str) -> Family:
    return Family(name, re.compile("|".join(tells), re.MULTILINE))


SD1 = _family("Stable Diffusion 1.x", r"(?!)")
_SD2 = _family("Stable Diffusion 2.x (SD2)", r"^cond_stage_model_model_")
_SDXL = _family(
    "SDXL", r"^conditioner_embedders_", r"(^|_)label_emb_0_0_", r"(^|_)(lora_te2|text_encoder_2)_", r"_add_embedding_linear_1",
    r"(^|_)(in|out)put_blocks_\d_1_transformer_blocks_[1-9]_", r"(down|up)_blocks_\d_attentions_\d_transformer_blocks_[1-9]_",
    r"(^|_)(middle_block_1|mid_block_attentions_0)_transformer_blocks_[1-9]_", r"^clip_g$",
)  # fmt: skip
_REFINER = _family("the SDXL refiner", r"^conditioner_embedders_0_model_")
FAMILIES = (
    _family("Stable Video Diffusion", r"_time_stack_", r"_time_mixer_", r"temporal_transformer_blocks_\d", r"time_mix_blocks_"),
    _family("ModelScope text-to-video (zeroscope)", r"_temopral_conv_", r"_temp_convs_", r"_temp_attentions_"),
    _family("HunyuanVideo", r"individual_token_refiner", r"context_embedder_token_refiner", r"double_blocks_19_img", r"single_blocks_3[89]_"),
    _family("HunyuanDiT", r"(^|_)mlp_t5_\d", r"blocks_\d+_attn\d_Wqkv", r"blocks_\d+_default_modulation"),
    _family("Chroma", r"distilled_guidance_layer"),
    _family("Flux.2", r"double_stream_modulation_img"),
    _family("AuraFlow", r"double_layers_\d+_attn_w1q", r"joint_transformer_blocks_\d+"),
    _family("HiDream", r"caption_projection_0_linear", r"(double|single)_stream_blocks_\d+"),
    _family("Flux", r"double_blocks_\d+_(img|txt)_", r"single_blocks_\d+_(linear|modulation)", r"single_transformer_blocks_\d+"),
    _family("Qwen-Image", r"transformer_blocks_\d+_(img|txt)_(mod|mlp)_"),
    _family("Cosmos", r"blocks_block\d+_blocks_", r"_adaln_modulation_(self|cross)_attn"),
    _family("Wan", r"(^|_)blocks_\d+_cross_attn_[qkvo]_(?!linear)", r"^(model_diffusion_model_)?head_modulation$", r"condition_embedder_(text|time)_"),
    _family("LTX-Video", r"(^|_)patchify_proj_"),
    _family("Sana", r"conv_inverted_", r"inverted_conv_", r"(^|_)caption_norm_"),
    _family("PixArt", r"(^|_)t_block_1_", r"blocks_\d+_cross_attn_(q|kv)_linear", r"(^|_)adaln_single_"),
    _family("CogVideoX", r"patch_embed_text_proj_"),
    _family("Stable Diffusion 3 (SD3)", r"joint_blocks_\d+_", r"(^|_)lora_te3_", r"transformer_blocks_\d+_attn_add_[qkv]_proj", r"^t5xxl$"),
    _family("Stable Cascade", r"(^|_)clip_(txt_|txt_pooled_|img_)?mapper_", r"(^|_)(effnet|c)_mapper_", r"(^|_)clf_1_weight$", r"^lora_prior_"),
    _family("Kandinsky", r"encoder_hid_proj_image_embeds_", r"add_embedding_image_(norm|proj)", r"visual_transformer_blocks_", r"(^|_)movq_"),
    _family("Kolors", r"(^|_)encoder_hid_proj_weight$"),
    _family("DeepFloyd IF", r"add_embedding_pool_", r"(^|_)encoder_proj_weight$"),
    _family("OmniGen", r"^llm_layers_\d", r"ref_image_(refiner|patch)", r"(^|_)time_caption_embed_"),
    _family("Lumina or Z-Image", r"(^|_)cap_embedder_", r"(noise|context)_refiner_\d"),
    _family("Mochi", r"(^|_)t5_yproj_"),
    _family("Stable Audio", r"rotary_pos_emb_inv_freq$", r"^conditioner_conditioners_"),
    _SD2,
    _REFINER,
    _SDXL,
)  # fmt: skip
"""In the order in which they are asked."""
_BY_CONTEXT = {1024: _SD2, 2048: _SDXL, 1280: _REFINER}
"""How wide the text is that a UNet's attention reads → family."""
_WIDTHS = {768: "SD1.x", 1024: "SD2", 1280: "SDXL's second text encoder", 4096: "T5, which SD3 and Flux have"}
"""Width of an embedding → whose it is."""
_CONTEXT = re.compile(
    r"attn2[._](to_k|to_k_lora|processor[._]to_k_lora)[._](weight|.*(lora_down[._]weight|lora_A[._].*|[._]?down[._]weight)|hada_w1_b)$"
)
_FIRST = re.compile(r"^(model\.diffusion_model\.|diffusion_model\.|control_model\.|unet\.)?(input_blocks\.0\.0|conv_in)\.weight$")
_CONDITIONED = {9: "inpainting", 8: "instruct-pix2pix", 5: "depth", 7: "upscaling"}
"""Input channels of a UNet → what they are for."""
_TEXT_LAYER = re.compile(r"text_model_encoder_layers_(1[2-9]|2\d)_")
"""Beyond the twelve layers of SD1.x's text encoder."""


def as_words(names: Iterable[str]) -> str:
    """All names, one a line, as the tables look at them."""
    return "\n".join(name.replace(".", "_") for name in names)


def family(shapes: Shapes) -> Family | None:
    """Of which family a network is, or what changes it; None where nothing tells that it is another than SD1.x."""
    known = _by_names_and_width(shapes, as_words(shapes))
    channels = next((shape[1] for name, shape in shapes.items() if _FIRST.search(name) and len(shape) == 4), 4)
    if channels == 4 or known not in (None, _SD2, _SDXL):
        return known
    purpose = f"{_CONDITIONED[channels]}, " if channels in _CONDITIONED else ""
    return Family(f"{(known or SD1).name} ({purpose}{channels} input channels)", SD1.tells)


def _by_names_and_width(shapes: Shapes, words: str) -> Family | None:
    if by_name := _by_names(words):
        return by_name
    widths = (shape[1] for name, shape in shapes.items() if _CONTEXT.search(name) and len(shape) > 1)
    by_width = next((_BY_CONTEXT[width] for width in widths if width in _BY_CONTEXT), None)
    return by_width or (_SD2 if _TEXT_LAYER.search(words) else None)


@functools.lru_cache(maxsize=4)
def _by_names(words: str) -> Family | None:
    """Remembered, because the same checkpoint is asked about again and again."""
    return next((each for each in FAMILIES if each.tells.search(words)), None)


def of_width(width: int) -> str:
    """Which text encoder has embeddings so wide, for a message: " (as those of SD2 are)"; "" for none that is known."""
    name = _WIDTHS.get(width)
    return f" (as those of {name} are)" if name else ""
