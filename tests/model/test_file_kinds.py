"""What a file is, is said by its kind and family, and what to do; the same table serves checkpoints, LoRAs and embeddings."""

import json
import re
from pathlib import Path

import pytest

from lib_finetune.model import checkpoint_reader, file_kinds
from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.random_weights import sd15_layout

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.text_model."
WHOLE = {
    UNET + "input_blocks.0.0.weight": (320, 4, 3, 3),
    UNET + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
    VAE + "encoder.conv_in.weight": (128, 3, 3, 3),
    TEXT + "encoder.layers.0.mlp.fc1.weight": (3072, 768),
}
"""Enough of a checkpoint of SD1.x to be told as one."""


def without(*starts):
    return {name: shape for name, shape in WHOLE.items() if not name.startswith(starts)}


def with_channels(count):
    return {**WHOLE, UNET + "input_blocks.0.0.weight": (320, count, 3, 3)}


def with_context(width):
    return {**WHOLE, UNET + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, width)}


def kohya(module, width=768, rank=4):
    return {f"{module}.lora_down.weight": (rank, width), f"{module}.lora_up.weight": (320, rank), f"{module}.alpha": ()}


_CROSS = "down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
FILES = {
    # name: (tensors, what is said of them)
    "SD1.x": (WHOLE, "a checkpoint"),
    "SD1.x with its average": ({**WHOLE, "model_ema.diffusion_modelinput_blocks00weight": (320, 4, 3, 3), "model_ema.decay": ()}, "a checkpoint"),
    "inpainting": (with_channels(9), r"a checkpoint of Stable Diffusion 1\.x \(inpainting, 9 input channels\)"),
    "pix2pix": (with_channels(8), r"a checkpoint of Stable Diffusion 1\.x \(instruct-pix2pix, 8 input channels\)"),
    "odd channels": (with_channels(12), r"a checkpoint of Stable Diffusion 1\.x \(12 input channels\)"),
    "SD2": ({**without("cond"), "cond_stage_model.model.ln_final.weight": (1024,)}, "a checkpoint of .*SD2"),
    "SD2 by its width": (with_context(1024), "a checkpoint of .*SD2"),
    "SD2 depth": ({**with_channels(5), "cond_stage_model.model.ln_final.weight": (4,)}, r"of .*SD2\) \(depth, 5 input channels"),
    "SDXL": ({**without("cond"), "conditioner.embedders.0.transformer.text_model.x": (4,)}, "a checkpoint of SDXL"),
    "SDXL's refiner": ({**without("cond"), "conditioner.embedders.0.model.ln_final.weight": (4,)}, "a checkpoint of the SDXL refiner"),
    "a UNet of SDXL": ({UNET + "label_emb.0.0.weight": (1280, 2816)}, "a UNet alone.* of SDXL"),
    "SD3": ({UNET + "joint_blocks.0.context_block.attn.qkv.weight": (4, 4), VAE + "x": (1,), "text_encoders.clip_l.x": (1,)}, "a checkpoint of .*SD3"),
    "Flux": ({"double_blocks.0.img_attn.norm.key_norm.scale": (128,)}, "a diffusion network alone.* of Flux"),
    "Flux of diffusers": ({"single_transformer_blocks.0.attn.to_q.weight": (4, 4)}, "of Flux"),
    "Flux of ComfyUI": ({UNET + "double_blocks.0.img_attn.qkv.weight": (4, 4), VAE + "x": (1,), "text_encoders.t5.x": (1,)}, "a checkpoint of Flux"),
    "Chroma": ({"distilled_guidance_layer.in_proj.weight": (4, 4), "double_blocks.0.img_attn.qkv.weight": (4, 4)}, "of Chroma"),
    "PixArt": ({"t_block.1.weight": (4, 4), "y_embedder.y_embedding": (120, 4096)}, "of PixArt"),
    "PixArt of diffusers": ({"adaln_single.linear.weight": (4, 4)}, "of PixArt"),
    "Cascade": ({"clf.1.weight": (4, 4), "clip_txt_mapper.weight": (4, 4)}, "of Stable Cascade"),
    "Kandinsky": ({"conv_in.weight": (4, 4, 3, 3), "encoder_hid_proj.image_embeds.weight": (4, 4)}, "of Kandinsky"),
    "Wan": ({"blocks.0.cross_attn.k.weight": (4, 4), "head.modulation": (1, 2, 4)}, "of Wan"),
    "HunyuanVideo": ({"txt_in.individual_token_refiner.blocks.0.x": (4,), "double_blocks.0.img_attn.qkv.weight": (4, 4)}, "of HunyuanVideo"),
    "HunyuanDiT": ({"mlp_t5.0.weight": (4, 4)}, "of HunyuanDiT"),
    "Qwen-Image": ({"transformer_blocks.0.img_mod.1.weight": (4, 4), "transformer_blocks.0.attn.add_k_proj.weight": (4, 4)}, "of Qwen-Image"),
    "AuraFlow": ({"double_layers.0.attn.w1q.weight": (4, 4)}, "of AuraFlow"),
    "LTX": ({"patchify_proj.weight": (4, 4), "adaln_single.linear.weight": (4, 4)}, "of LTX-Video"),
    "Lumina": ({"cap_embedder.1.weight": (4, 4)}, "of Lumina"),
    "video of SD": ({**WHOLE, UNET + "input_blocks.1.1.time_stack.0.attn1.to_q.weight": (4, 4)}, "of Stable Video Diffusion"),
    "AnimateDiff": ({"down_blocks.0.motion_modules.0.temporal_transformer.norm.weight": (320,)}, r"a motion module \(AnimateDiff\)"),
    "AnimateDiff's LoRA": ({"down_blocks.0.motion_modules.0.temporal_transformer.x.processor.to_q_lora.down.weight": (4, 4)}, "a LoRA of a motion module"),
    "ControlNet": ({"control_model.input_hint_block.0.weight": (16, 3, 3, 3), **WHOLE}, "a ControlNet"),
    "ControlNet of diffusers": ({"controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3), "conv_in.weight": (320, 4, 3, 3)}, "a ControlNet"),
    "ControlNet pruned": ({"input_hint_block.0.weight": (16, 3, 3, 3), "input_blocks.0.0.weight": (320, 4, 3, 3)}, "a ControlNet"),
    "T2I adapter": ({"adapter.body.0.in_conv.weight": (4, 4)}, "a T2I adapter"),
    "IP-Adapter": ({"image_proj.proj.weight": (4, 4), "ip_adapter.1.to_k_ip.weight": (4, 4)}, "an IP-Adapter"),
    "VAE": ({"encoder.down.0.block.0.norm1.weight": (4,), "quant_conv.weight": (8, 8, 1, 1)}, "a VAE"),
    "VAE of diffusers": ({"decoder.up_blocks.0.resnets.0.conv1.weight": (4, 4, 3, 3), "decoder.conv_in.weight": (512, 4, 3, 3)}, "a VAE"),
    "VAE inside its prefix": ({VAE + "encoder.conv_in.weight": (4, 3, 3, 3)}, "a VAE"),
    "UNet alone": (without(VAE, "cond"), "a UNet alone"),
    "UNet of diffusers": ({"conv_in.weight": (320, 4, 3, 3), "down_blocks.0.resnets.0.conv1.weight": (4, 4, 3, 3)}, "a UNet alone"),
    "one file of diffusers": ({"unet.conv_in.weight": (320, 4, 3, 3), "vae.decoder.conv_in.weight": (4, 4, 3, 3), "text_encoder.text_model.x": (1,)},
                              "a whole model in one file, but under diffusers' names"),
    "UNet without prefix": ({"input_blocks.0.0.weight": (320, 4, 3, 3), "time_embed.0.weight": (4, 4)}, "a UNet alone"),
    "text encoder": ({"text_model.encoder.layers.0.mlp.fc1.weight": (4, 4)}, "a text encoder"),
    "text encoder with its prefix": ({TEXT + "x.weight": (4,)}, "a text encoder"),
    "T5": ({"encoder.block.0.layer.0.SelfAttention.k.weight": (4, 4)}, "a text encoder"),
    "CLIP vision": ({"vision_model.encoder.layers.0.mlp.fc1.weight": (4, 4), "text_model.encoder.layers.0.x": (1,)}, "an image encoder"),
    "no VAE": (without(VAE), "a checkpoint without its VAE"),
    "no text encoder": (without("cond"), "a checkpoint without its text encoder"),
    "EMA alone": ({**without(UNET), "model_ema.diffusion_modelinput_blocks00weight": (320, 4, 3, 3)}, r"averaged weights \(EMA\) alone"),
    "hypernetwork": ({"768.0.linear.0.weight": (4, 4)}, "a hypernetwork"),
    "ESRGAN": ({"model.0.weight": (64, 3, 3, 3), "model.1.sub.0.RDB1.conv1.0.weight": (32, 64, 3, 3)}, "an upscaler"),
    "Real-ESRGAN": ({"conv_first.weight": (64, 3, 3, 3), "body.0.rdb1.conv1.weight": (4, 4, 3, 3)}, "an upscaler"),
    "optimizer": ({"state.0.exp_avg": (4,)}, "a saved state of an optimizer"),
    "LoRA": (kohya("lora_unet_" + _CROSS), "a LoRA"),
    "LoHa": ({f"lora_unet_{_CROSS}.hada_w1_b": (4, 768)}, "a LoRA"),
    "LoKr": ({f"lora_unet_{_CROSS}.lokr_w1": (4, 4)}, "a LoRA"),
    "OFT": ({"oft_unet_down_blocks_0.oft_blocks": (4, 4, 4)}, "a LoRA"),
    "IA3": ({f"lora_unet_{_CROSS}.on_input": (), f"lora_unet_{_CROSS}.weight": (4,)}, "a LoRA"),
    "peft": ({"base_model.model.down_blocks.0.attn.to_q.lora_A.weight": (4, 320)}, "a LoRA"),
    "diffusers": ({"unet.down_blocks.0.attn.processor.to_q_lora.down.weight": (4, 320)}, "a LoRA"),
    "LoRA of SDXL": ({**kohya("lora_te2_text_model_encoder_layers_0_mlp_fc1"), **kohya("lora_te1_text_model_encoder_layers_0_mlp_fc1")}, "a LoRA of SDXL"),
    "LoRA of SDXL by its blocks": (kohya("lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q"), "a LoRA of SDXL"),
    "LoRA of SDXL by its width": (kohya("lora_unet_" + _CROSS, 2048), "a LoRA of SDXL"),
    "LoRA of SD2": (kohya("lora_unet_" + _CROSS, 1024), "a LoRA of .*SD2"),
    "LoHa of SD2": ({f"lora_unet_{_CROSS}.hada_w1_b": (4, 1024)}, "a LoRA of .*SD2"),
    "LoRA of Flux": (kohya("lora_unet_double_blocks_0_img_attn_qkv"), "a LoRA of Flux"),
    "LoRA of Flux of diffusers": ({"transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": (4, 4)}, "a LoRA of Flux"),
    "LoRA of SD3": (kohya("lora_unet_joint_blocks_0_context_block_attn_qkv"), "a LoRA of .*SD3"),
    "LoRA of Wan": ({"diffusion_model.blocks.0.cross_attn.k.lora_A.weight": (4, 4)}, "a LoRA of Wan"),
    "LoRA of Cascade": (kohya("lora_prior_unet_down_blocks_0_attn"), "a LoRA of Stable Cascade"),
    "embedding": ({"emb_params": (2, 768)}, "an embedding"),
    "embedding of diffusers": ({"<cat>": (768,)}, "an embedding"),
    "embedding of SDXL": ({"clip_g": (2, 1280), "clip_l": (2, 768)}, "an embedding of SDXL"),
    "Wan of diffusers": ({"condition_embedder.time_embedder.linear_1.weight": (4, 4), "blocks.0.attn2.to_q.weight": (4, 4)}, "of Wan"),
    "Kandinsky 5": ({"visual_transformer_blocks.0.self_attention.to_query.weight": (4, 4)}, "a diffusion network alone.* of Kandinsky"),
    "Würstchen": ({"c_mapper.weight": (4, 4), "projection.weight": (4, 4, 1, 1), "blocks.0.x": (1,)}, "of Stable Cascade"),
    "OmniGen": ({"llm.layers.0.self_attn.qkv_proj.weight": (4, 4), "x_embedder.proj.weight": (4, 4, 2, 2)}, "of OmniGen"),
    "OmniGen2": ({"time_caption_embed.timestep_embedder.linear_1.weight": (4, 4), "ref_image_refiner.0.attn.to_q.weight": (4, 4)}, "of OmniGen"),
    "LoRA of SDXL by its middle block": (kohya("lora_unet_middle_block_1_transformer_blocks_9_attn1_to_q", 1280), "a LoRA of SDXL"),
    "LoRA of SDXL by diffusers' middle block": (kohya("lora_unet_mid_block_attentions_0_transformer_blocks_3_attn1_to_q", 1280), "a LoRA of SDXL"),
    "embedding of SD3": ({"clip_g": (2, 1280), "clip_l": (2, 768), "t5xxl": (2, 4096)}, "an embedding of .*SD3"),
    "the first trainer's LoRA": ({"unet:0:up": (320, 4), "unet:0:down": (4, 320)}, "a list of patches of the first LoRA trainer"),
    "the first trainer's LoRA without names": ({"0": (320, 4), "1": (4, 320), "2": (320, 4), "3": (4, 768)}, "a list of patches of the first LoRA trainer"),
    "TAESD": ({"0.weight": (64, 3, 3, 3), "1.conv.0.weight": (64, 64, 3, 3)}, r"a small VAE for previews \(TAESD\)"),
    "TAESD's decoder": ({"1.weight": (64, 4, 3, 3), "3.conv.0.weight": (64, 64, 3, 3)}, r"a small VAE for previews \(TAESD\)"),
    "TAESD of diffusers": ({"encoder.layers.0.weight": (64, 3, 3, 3), "decoder.layers.1.weight": (64, 4, 3, 3)}, "a small VAE"),
    "upscaler of few layers": ({"body.0.weight": (64, 3, 3, 3), "body.1.weight": (64,), "body.2.weight": (64, 64, 3, 3)}, "an upscaler"),
    "SPAN": ({"conv_1.sk.weight": (48, 3, 1, 1), "block_1.c1_r.sk.weight": (48, 48, 1, 1)}, "an upscaler"),
    "GFPGAN": ({"stylegan_decoder.constant_input.weight": (1, 512, 4, 4)}, "a restorer of faces"),
    "CodeFormer": ({"quantize.embedding.weight": (1024, 256), "idx_pred_layer.1.weight": (1024, 512)}, "a restorer of faces"),
    "YOLO": ({"model.0.conv.weight": (16, 3, 3, 3), "model.1.bn.weight": (4,)}, "a detector or segmenter"),
    "SAM": ({"image_encoder.patch_embed.proj.weight": (4, 3, 4, 4), "mask_decoder.iou_token.weight": (1, 4)}, "a detector or segmenter"),
    "BLIP": ({"visual_encoder.blocks.0.attn.qkv.weight": (4, 4), "text_decoder.bert.x": (1,)}, "a captioner"),
    "a head of one layer": ({"layers.0.weight": (1024, 768)}, r"holds layers\.0\.weight, which belong to no kind"),
    "something else": ({"a.b": (2, 2), "c.d": (2, 2), "e.f": (1,)}, r"holds a\.b, c\.d, …, which belong to no kind"),
}  # fmt: skip


@pytest.mark.parametrize("what", list(FILES))
def test_a_file_is_told_by_kind_and_family(what):
    shapes, said = FILES[what]
    contents = file_kinds.identify(shapes)
    assert re.search(said, contents.phrase), contents.phrase
    assert contents.family is None or "of " in said


TAKEN = {
    "checkpoint": ("SD1.x", "SD1.x with its average"),
    "LoRA": ("LoRA", "LoHa", "LoKr", "OFT", "IA3", "peft", "diffusers"),
    "embedding": ("embedding", "embedding of diffusers"),
}


@pytest.mark.parametrize("wanted", list(TAKEN))
def test_each_reader_takes_its_own_kind_and_says_of_all_others_what_they_are(wanted):
    for what, (shapes, _) in FILES.items():
        fault = file_kinds.fault(file_kinds.identify(shapes), wanted)
        assert (fault is None) == (what in TAKEN[wanted]), what
        assert fault is None or (fault.startswith(f"is no {wanted} of Stable Diffusion 1.x: it ") and fault.endswith(".")), fault


GOLDEN = Path(__file__).parents[1] / "golden"


def test_all_names_of_the_original_checkpoint_are_known_and_told_as_a_checkpoint():
    shapes = {name: tuple(shape) for name, shape in json.loads((GOLDEN / "sd15_checkpoint_keys.json").read_text()).items()}
    assert file_kinds.fault(file_kinds.identify(shapes), "checkpoint") is None and file_kinds.quantised(shapes) is None
    places = {slot.source for slot in BorrowedModel(sd15_layout()).slots}
    assert {checkpoint_reader.ldm_name(name) for name in shapes if not checkpoint_reader._NOT_USED.fullmatch(name)} == places


@pytest.mark.parametrize("form", ["lora_dim16", "locon_dim16_conv8"])
def test_all_names_of_kohyas_trainer_are_told_as_a_lora(form):
    listed = json.loads((GOLDEN / "kohya_lora_keys.json").read_text())[form]
    assert file_kinds.fault(file_kinds.identify({name: tuple(shape) for name, shape in listed.items()}), "LoRA") is None
