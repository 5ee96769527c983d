"""Names of weights against readers that are not ours."""

import json
from pathlib import Path

import pytest

from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.layout import infer
from lib_finetune.model.random_weights import random_checkpoint, sd15_layout, small_layout, tiny_layout
from lib_finetune.training.adapters import ADAPTERS, AdapterOptions
from lib_finetune.training.adapters.targets import text_targets, unet_targets

GOLDEN = Path(__file__).parents[1] / "golden"


def golden(name):
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def model():
    return BorrowedModel(infer(random_checkpoint(tiny_layout(), 0), text_heads=2))


def test_the_layout_is_read_off_the_weights():
    for layout in (tiny_layout(), small_layout()):
        assert infer(random_checkpoint(layout, 0), text_heads=2) == layout


@pytest.mark.parametrize(("part", "converter"), [("unet", "convert_ldm_unet_checkpoint"), ("vae", "convert_ldm_vae_checkpoint")])
def test_every_weight_sits_where_the_converter_of_diffusers_puts_it(model, part, converter):
    from diffusers.loaders import single_file_utils

    layout = tiny_layout()
    tensors = random_checkpoint(layout, 0)
    config = {"num_class_embeds": None, "class_embed_type": None, "addition_embed_type": None, **getattr(layout, part)}
    theirs = getattr(single_file_utils, converter)(dict(tensors), config=config)
    with model.bound(tensors):
        ours = getattr(model, part).state_dict()
        assert set(theirs) == set(ours)
        assert all(theirs[name].data_ptr() == ours[name].data_ptr() for name in ours)


def test_the_small_layout_has_no_name_that_sd15_has_not():
    assert set(BorrowedModel(small_layout()).sources().values()) < set(BorrowedModel(sd15_layout()).sources().values())


def test_the_layout_of_sd15_has_the_names_of_its_checkpoint():
    model = BorrowedModel(sd15_layout())
    assert set(model.sources().values()) == set(golden("sd15_checkpoint_keys"))


def test_sd15_has_1130_weights():
    sources = {slot.source for slot in BorrowedModel(sd15_layout()).slots}
    assert len(sources) == 1130
    assert {"model.diffusion_model.output_blocks.5.2.conv.weight", "first_stage_model.decoder.up.3.upsample.conv.bias"} <= sources


def test_lora_patches_the_modules_of_kohya():
    model = BorrowedModel(sd15_layout())
    unet = unet_targets(model.unet, "all", 16, 8, 0, 1)
    names = {target.kohya for target in unet}
    assert len(unet) == len(names) == 192
    assert "lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_0_proj" in names
    assert len(text_targets(model.text, 16, 8)) == 72
    assert text_targets(model.text, 16, 8)[0].kohya == "lora_te_text_model_encoder_layers_0_self_attn_k_proj"


def test_locon_adds_the_residual_blocks_with_the_rank_of_convolutions():
    targets = {target.kohya: target for target in unet_targets(BorrowedModel(sd15_layout()).unet, "all", 16, 8, 4, 1)}
    assert len(targets) == 278
    assert targets["lora_unet_down_blocks_0_resnets_0_conv1"].rank == 4
    assert targets["lora_unet_down_blocks_1_resnets_0_conv_shortcut"].rank == 16


def test_attention_only_leaves_the_rest_alone():
    targets = unet_targets(BorrowedModel(sd15_layout()).unet, "attention", 16, 8, 0, 1)
    assert len(targets) == 128 and all("attn" in target.module for target in targets)


@pytest.mark.parametrize(("file", "conv_rank"), [("lora_dim16", 0), ("locon_dim16_conv8", 8)])
def test_names_and_shapes_of_a_lora_file_are_those_that_kohya_writes(file, conv_rank):
    model = BorrowedModel(sd15_layout())
    targets = unet_targets(model.unet, "all", 16, 8, conv_rank, 1) + text_targets(model.text, 16, 8)
    adapter = ADAPTERS["lora"]({"unet": model.unet, "text": model.text}, targets, AdapterOptions())
    assert {name: list(value.shape) for name, value in adapter.state().items()} == golden("kohya_lora_keys")[file]
