"""Patches of a file as the beginning of an adapter: the same change, the same file, and a word on what does not fit."""

import pytest
import torch

from lib_finetune.errors import InputError
from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.lora_merge import merged
from lib_finetune.model.random_weights import small_layout
from lib_finetune.training.adapters import ADAPTERS, AdapterOptions
from lib_finetune.training.adapters.start import agrees, begin, demands
from lib_finetune.training.adapters.targets import text_targets, unet_targets
from tests.fakes.host import tiny_tensors

INPUT = (torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 700]), torch.ones(2, 77, 32))


def attach(name, seed=0, conv_rank=2, text=True, layers="all", rank=4, factor=4):
    torch.manual_seed(seed)
    model = BorrowedModel(small_layout())
    model.bind(tiny_tensors())
    targets = unet_targets(model.unet, layers, rank, 2, conv_rank, 1) + (text_targets(model.text, rank, 2) if text else [])
    return model, ADAPTERS[name]({"unet": model.unet, "text": model.text}, targets, AdapterOptions(factor=factor))


def trained(name, **how):
    """The fp16 tensors of an adapter whose weights have moved."""
    _, adapter = attach(name, **how)
    generator = torch.Generator().manual_seed(7)
    for part in ("unet", "text"):
        for weight in adapter.parameters(part).values():
            weight.data += 0.05 * torch.randn(weight.shape, generator=generator)
    return {key: value.half() for key, value in adapter.state().items()}


def plain(module):
    """The parts of a LoRA."""
    return {
        f"{module}.lora_down.weight": torch.zeros(4, 320),
        f"{module}.lora_up.weight": torch.zeros(320, 4),
        f"{module}.alpha": torch.tensor(2.0),
    }


@pytest.mark.parametrize("name", list(ADAPTERS))
@pytest.mark.parametrize("conv_rank", [0, 2])
def test_an_adapter_that_begins_with_a_file_holds_the_file(name, conv_rank):
    file = trained(name, conv_rank=conv_rank)
    _, adapter = attach(name, seed=5, conv_rank=conv_rank)
    begin(adapter, file, "x")
    state = adapter.state()
    assert state.keys() == file.keys() and all(torch.equal(state[key].half(), value) for key, value in file.items())


@torch.no_grad()
@pytest.mark.parametrize("name", list(ADAPTERS))
def test_an_adapter_that_begins_with_a_file_does_what_the_file_does(name):
    file = trained(name)
    model, adapter = attach(name, seed=5)
    begin(adapter, file, "x")
    whole = BorrowedModel(small_layout())
    whole.bind(merged(tiny_tensors(), whole, {key: value.float() for key, value in file.items()}, 1.0))
    assert torch.allclose(model.unet(*INPUT).sample, whole.unet(*INPUT).sample, atol=2e-3)


@pytest.mark.parametrize("name", list(ADAPTERS))
def test_all_weights_learn_from_the_first_step(name):
    model, adapter = attach(name, seed=5)
    begin(adapter, trained(name), "x")
    cond = model.text(input_ids=torch.full((2, 77), 49407)).last_hidden_state
    model.unet(*INPUT[:2], cond).sample.square().mean().backward()
    # At 8×8 latents the deepest level is one cell wide; attention of one cell to itself has no gradient in queries and keys.
    still = {key for part in ("unet", "text") for key, weight in adapter.parameters(part).items() if not weight.grad.any()}
    assert all("attn1_to_q" in key or "attn1_to_k" in key for key in still)


@pytest.mark.parametrize("name", list(ADAPTERS))
@pytest.mark.parametrize(("conv_rank", "text", "layers"), [(0, True, "all"), (2, False, "all"), (0, True, "attention")])
def test_a_file_demands_what_it_was_made_with(name, conv_rank, text, layers):
    found = demands(trained(name, conv_rank=conv_rank, text=text, layers=layers), "x")
    expected = {
        "network.adapter": name,
        "network.targets": layers,
        "network.text_encoder": text,
        "network.rank": 4,
        "network.conv_rank": conv_rank,
    }
    told = {"network.alpha": 2.0, "network.conv_alpha": 1.0}
    assert expected.items() <= found.items() and {key: value for key, value in told.items() if key in found}.items() <= found.items()
    if name != "lokr":  # where both factors are whole, alpha has no meaning
        assert ("network.alpha" in found) and ("network.conv_alpha" in found) == bool(conv_rank)


KOHYAS = {  # as sd-scripts writes them with --network_dim 16 and conv_dim 8
    "lora_te_text_model_encoder_layers_0_mlp_fc1": ((16, 768), (3072, 16)),
    "lora_unet_down_blocks_0_attentions_0_proj_in": ((16, 320, 1, 1), (320, 16, 1, 1)),
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0": ((16, 320), (320, 16)),
    "lora_unet_down_blocks_0_downsamplers_0_conv": ((8, 320, 3, 3), (320, 8, 1, 1)),
    "lora_unet_down_blocks_0_resnets_0_conv1": ((8, 320, 3, 3), (320, 8, 1, 1)),
    "lora_unet_down_blocks_0_resnets_0_time_emb_proj": ((16, 1280), (320, 16)),
    "lora_unet_down_blocks_1_resnets_0_conv_shortcut": ((16, 320, 1, 1), (640, 16, 1, 1)),
    "lora_unet_mid_block_resnets_1_conv2": ((8, 1280, 3, 3), (1280, 8, 1, 1)),
    "lora_unet_up_blocks_0_upsamplers_0_conv": ((8, 1280, 3, 3), (1280, 8, 1, 1)),
}


@pytest.mark.parametrize(
    ("listed", "conv_rank"), [([name for name in KOHYAS if "_attentions_" in name or "lora_te" in name], 0), (KOHYAS, 8)]
)
def test_what_kohyas_trainer_writes_is_understood(listed, conv_rank):
    file = {}
    for name in listed:
        down, up = KOHYAS[name]
        file |= {
            f"{name}.lora_down.weight": torch.zeros(down),
            f"{name}.lora_up.weight": torch.zeros(up),
            f"{name}.alpha": torch.tensor(8.0),
        }
    found = demands(file, "x")
    assert (found["network.adapter"], found["network.rank"], found["network.conv_rank"]) == ("lora", 16, conv_rank)
    assert found["network.targets"] == "all" and found["network.text_encoder"]


def test_without_alpha_the_rank_counts_as_alpha():
    file = {key: value for key, value in trained("lora", conv_rank=0).items() if not key.endswith("alpha")}
    assert demands(file, "x")["network.alpha"] == 4.0


def test_one_by_one_convolutions_may_be_written_as_matrices():
    file = trained("lora", conv_rank=0)
    matrices = {key: value.flatten(1) if value.ndim == 4 else value for key, value in file.items()}
    _, adapter = attach("lora", seed=5, conv_rank=0)
    begin(adapter, matrices, "x")
    assert all(torch.equal(adapter.state()[key].half(), value) for key, value in file.items())


UNET, TEXT = "lora_unet_mid_block_attentions_0_proj_in", "lora_te_text_model_encoder_layers_0_mlp_fc1"
REFUSED = {
    "an embedding": ({"emb_params": torch.zeros(2, 768)}, r"no LoRA.*emb_params"),
    "a checkpoint": ({"model.diffusion_model.x.weight": torch.zeros(1)}, "no LoRA"),
    "nothing": ({}, "holds none"),
    "another form": ({"unet.x.lora_A.weight": torch.zeros(1)}, "no LoRA"),
    "Tucker's": ({**plain(UNET), f"{UNET}.lora_mid.weight": torch.zeros(1)}, "lora_mid"),
    "a bias": ({**plain(UNET), f"{UNET}.diff_b": torch.zeros(1)}, "diff_b"),
    "a weight to set": ({**plain(UNET), f"{UNET}.set_weight": torch.zeros(1)}, "set_weight"),
    "a scale": ({**plain(UNET), f"{UNET}.scale": torch.zeros(())}, "scale"),
    "a norm": ({**plain(UNET), f"{UNET}_norm.w_norm": torch.zeros(1), f"{UNET}_norm.b_norm": torch.zeros(1)}, "b_norm, w_norm"),
    "IA3": ({f"{UNET}.weight": torch.zeros(1), f"{UNET}.on_input": torch.zeros(1)}, "on_input, weight"),
    "OFT": ({f"{UNET}.oft_blocks": torch.zeros(1)}, "oft_blocks"),
    "LoKr in Tucker's form": ({f"{UNET}.{part}": torch.zeros(1) for part in ("lokr_w1", "lokr_w2_a", "lokr_w2_b", "lokr_t2")}, "lokr_t2"),
    "DoRA": ({**plain(UNET), f"{UNET}.dora_scale": torch.zeros(1)}, "dora_scale"),
    "another family": ({**plain(UNET), **plain("lora_te1_text_model_encoder_layers_0_mlp_fc1")}, "another family.*lora_te1_"),
    "SDXL's blocks": (plain("lora_unet_input_blocks_4_1_proj_in"), "another family"),
    "the text encoder alone": (plain(TEXT), "no patches of the UNet"),
    "several alphas": ({**plain(UNET), **plain(TEXT), f"{TEXT}.alpha": torch.tensor(1.0)}, r"several alphas \(1, 2\)"),
}  # fmt: skip


@pytest.mark.parametrize("what", list(REFUSED))
def test_what_cannot_be_begun_with_is_refused(what):
    file, said = REFUSED[what]
    with pytest.raises(InputError, match=said) as caught:
        demands(file, "x.safetensors")
    assert [problem.field for problem in caught.value.problems] == ["network.start"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda file: {key: value for key, value in file.items() if "mid_block" not in key}, "does not patch lora_unet_mid_block"),
        (lambda file: {**file, **plain("lora_unet_mid_block_elsewhere")}, "it patches lora_unet_mid_block_elsewhere"),
        (
            lambda file: {key: value.repeat(2, *[1] * (value.ndim - 1)) if "lora_up" in key else value for key, value in file.items()},
            "size",
        ),
        (lambda file: {key: value * float("nan") for key, value in file.items()}, "not finite"),
    ],
)
def test_a_file_of_another_model_or_a_broken_one_is_named(change, said):
    _, adapter = attach("lora", conv_rank=0)
    with pytest.raises(InputError, match=said):
        begin(adapter, change(trained("lora", conv_rank=0)), "x.safetensors")


def test_another_kronecker_factor_is_told_with_the_one_to_set():
    _, adapter = attach("lokr", factor=2)
    with pytest.raises(InputError, match=r"network\.factor: .*Set it to 4"):
        begin(adapter, trained("lokr", factor=4), "x.safetensors")


def test_values_agree_up_to_the_files_precision():
    assert agrees(0.1, float(torch.tensor(0.1).half())) and agrees(0.3, float(torch.tensor(0.3).bfloat16()))
    assert not agrees(8.0, 8.5) and agrees(4, 4) and not agrees(True, False)
