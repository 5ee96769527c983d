"""Each part of a patch does what lycoris does with it, or the patch is refused by the part's name."""

import pytest
import torch
from torch import nn

from lib_finetune.errors import InputError
from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.lora_change import BIAS_PARTS, changed, changed_bias
from lib_finetune.model.lora_merge import merged
from lib_finetune.model.random_weights import small_layout
from tests.fakes.host import tiny_tensors


def linear():
    return nn.Linear(6, 8)


def convolution():
    return nn.Conv2d(6, 8, 3)


def norm():
    return nn.LayerNorm(6)


def drawn(**shapes):
    """Random parts; "__" in a name stands for a dot."""
    generator = torch.Generator().manual_seed(3)
    return {name.replace("__", "."): torch.randn(shape, generator=generator) for name, shape in shapes.items()}


LORA = {"lora_down__weight": (2, 6), "lora_up__weight": (8, 2)}
LOCON = {"lora_down__weight": (2, 6, 3, 3), "lora_up__weight": (8, 2, 1, 1)}
LOHA = {"hada_w1_a": (8, 2), "hada_w1_b": (2, 6), "hada_w2_a": (8, 2), "hada_w2_b": (2, 6)}
TUCKER_LOHA = {
    "hada_w1_a": (2, 8),
    "hada_w1_b": (2, 6),
    "hada_w2_a": (2, 8),
    "hada_w2_b": (2, 6),
    "hada_t1": (2, 2, 3, 3),
    "hada_t2": (2, 2, 3, 3),
}
TWO = {"alpha": 2.0}
READ = {
    "LoRA": (linear, LORA, TWO),
    "LoRA with a bias": (linear, {**LORA, "diff_b": (8,)}, TWO),
    "LoCon": (convolution, LOCON, TWO),
    "LoCon in Tucker's form": (convolution, {"lora_down__weight": (2, 6, 1, 1), "lora_mid__weight": (2, 2, 3, 3), "lora_up__weight": (8, 2, 1, 1)}, TWO),
    "LoHa": (linear, LOHA, TWO),
    "LoHa in Tucker's form": (convolution, TUCKER_LOHA, TWO),
    "LoKr": (linear, {"lokr_w1": (2, 2), "lokr_w2": (4, 3)}, TWO),
    "LoKr of two pairs": (linear, {"lokr_w1_a": (2, 2), "lokr_w1_b": (2, 2), "lokr_w2_a": (4, 2), "lokr_w2_b": (2, 3)}, TWO),
    "LoKr in Tucker's form": (convolution, {"lokr_w1": (2, 2), "lokr_w2_a": (2, 4), "lokr_w2_b": (2, 3), "lokr_t2": (2, 2, 3, 3)}, TWO),
    "whole": (linear, {"diff": (8, 6), "diff_b": (8,)}, {}),
    "whole convolution": (convolution, {"diff": (8, 6, 3, 3)}, {}),
    "norm": (norm, {"w_norm": (6,), "b_norm": (6,)}, {}),
    "DoRA by columns": (linear, {**LORA, "dora_scale": (1, 6)}, TWO),
    "DoRA by rows": (linear, {**LORA, "dora_scale": (8, 1)}, TWO),
    "DoRA of a LoCon": (convolution, {**LOCON, "dora_scale": (1, 6, 1, 1)}, TWO),
    "DoRA of a LoHa": (linear, {**LOHA, "dora_scale": (8, 1)}, TWO),
}  # fmt: skip


def product(parts):
    return parts["lora_up.weight"].flatten(1) @ parts["lora_down.weight"].flatten(1)


def by_columns(whole, lengths):
    return whole * (lengths.flatten() / whole.transpose(0, 1).flatten(1).norm(dim=1)).reshape(1, -1, *[1] * (whole.ndim - 2))


BY_FORMULA = {  # lycoris 2.2 and later do not merge these, or only some versions of it do
    "LoRA with a bias": lambda base, parts: base + product(parts),
    "LoKr of two pairs": lambda base, parts: base + torch.kron(parts["lokr_w1_a"] @ parts["lokr_w1_b"], parts["lokr_w2_a"] @ parts["lokr_w2_b"]),
    "LoKr in Tucker's form": lambda base, parts: base + torch.kron(
        parts["lokr_w1"][:, :, None, None], torch.einsum("abhw,ao,bi->oihw", parts["lokr_t2"], parts["lokr_w2_a"], parts["lokr_w2_b"]).contiguous()),
    "whole": lambda base, parts: base + parts["diff"],
    "whole convolution": lambda base, parts: base + parts["diff"],
    "DoRA by columns": lambda base, parts: by_columns(base + product(parts), parts["dora_scale"]),
    "DoRA of a LoCon": lambda base, parts: by_columns(base + product(parts).reshape(base.shape), parts["dora_scale"]),
}  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize("kind", list(READ))
def test_a_patch_changes_a_layer_as_its_formula_and_lycoris_do(kind):
    make, shapes, numbers = READ[kind]
    layer, parts = make(), {**drawn(**shapes), **{name: torch.tensor(value) for name, value in numbers.items()}}
    ours = changed(layer.weight, {name: value for name, value in parts.items() if name not in BIAS_PARTS}, 1.0)
    assert not torch.allclose(ours, layer.weight, atol=1e-2)
    wanted = BY_FORMULA[kind](layer.weight, parts) if kind in BY_FORMULA else merged_by_lycoris(layer, parts)
    assert torch.allclose(ours, wanted, atol=1e-5)


def merged_by_lycoris(layer, parts):
    from lycoris.modules import get_module, make_module

    stored = {f"x.{name}": value for name, value in parts.items()}
    return make_module(*get_module(stored, "x"), "x", layer).get_merged_weight(1.0, layer.weight.shape)[0].detach()


@pytest.mark.parametrize("part", BIAS_PARTS)
def test_a_bias_is_moved_by_its_difference(part):
    base, change = torch.randn(8).half(), torch.randn(8)
    found = changed_bias(base, change, 0.5, part)
    assert found.dtype == torch.float16 and torch.allclose(found.float(), base.float() + change / 2, atol=1e-2)


@pytest.mark.parametrize("on_input", [True, False])
@pytest.mark.parametrize("make", [linear, convolution])
def test_an_ia3_patch_lengthens_rows_or_columns(make, on_input):
    base = make().weight.detach()
    factors = torch.randn(6 if on_input else 8)
    ours = changed(base, {"weight": factors, "on_input": torch.tensor(on_input)}, 0.5)
    sides = (1, -1) if on_input else (-1, 1)
    assert torch.allclose(ours, base * (1 + 0.5 * factors.reshape(*sides, *[1] * (base.ndim - 2))), atol=1e-6)


def test_half_of_a_dora_is_half_of_its_change():
    base, parts = linear().weight.detach(), {**drawn(**LORA), "dora_scale": torch.rand(8, 1) + 0.5}
    assert torch.allclose(changed(base, parts, 0.5) - base, (changed(base, parts, 1.0) - base) / 2, atol=1e-6)


def test_a_scale_of_its_own_goes_before_alpha():
    base, parts = linear().weight.detach(), drawn(**LORA)
    wanted = base + 3 * parts["lora_up.weight"] @ parts["lora_down.weight"]
    assert torch.allclose(changed(base, {**parts, "scale": torch.tensor(3.0), "alpha": torch.tensor(1.0)}, 1.0), wanted, atol=1e-5)


UNREAD = {
    "set_weight": {"set_weight": (8, 6)},
    "reshape_weight": {"reshape_weight": (2,)},
    "oft_blocks": {"oft_blocks": (2, 4, 4)},
    "oft_diag": {"oft_diag": (2, 4)},
    "a1.weight": {"a1__weight": (2, 2)},
    "bias_values": {"bias_values": (2,)},
    "hada_t1": {"hada_t1": (2, 2, 3, 3)},
    "anything": {"anything": (1,)},
}


@pytest.mark.parametrize("beside", ["nothing", *READ])
@pytest.mark.parametrize("part", list(UNREAD))
def test_a_part_that_is_not_read_refuses_the_patch_by_its_name(part, beside):
    make, shapes, numbers = READ.get(beside, (linear, {}, {}))
    parts = {
        **drawn(**{name: shape for name, shape in shapes.items() if name not in BIAS_PARTS}),
        **{name: torch.tensor(value) for name, value in numbers.items()},
    }
    if part in parts:
        return
    with pytest.raises(InputError, match=part) as caught:
        changed(make().weight, {**parts, **drawn(**UNREAD[part])}, 1.0, "network.start")
    assert [problem.field for problem in caught.value.problems] == ["network.start"]


@pytest.mark.parametrize(
    "shapes",
    [
        {"lora_down__weight": (2, 6), "lora_up__weight": (8, 3)}, {"lora_down__weight": (2, 7), "lora_up__weight": (8, 2)}, {"diff": (6, 8)},
        {**LORA, "dora_scale": (3, 1)}, {**LORA, "dora_scale": ()}, {**LORA, "lora_mid__weight": (2, 2)}, {"diff": ()},
        {"hada_w1_a": (8, 2), "hada_w1_b": (2, 6), "hada_w2_a": (8, 2), "hada_w2_b": (2, 5)}, {"weight": (5,), "on_input": ()},
    ],
)  # fmt: skip
def test_parts_that_do_not_fit_are_refused(shapes):
    with pytest.raises(InputError):
        changed(linear().weight, drawn(**shapes), 1.0)


# -- in a whole model ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    return BorrowedModel(small_layout())


NORM, PROJECTION, QUERY = "resnets_0_norm1", "attentions_0_proj_in", "attentions_0_transformer_blocks_0_attn1_to_q"


def test_biases_and_norms_of_a_model_are_changed(model):
    tensors = tiny_tensors()
    file = {
        f"lora_unet_mid_block_{NORM}.w_norm": torch.full((64,), 0.5),
        f"lora_unet_mid_block_{NORM}.b_norm": torch.full((64,), 0.25),
        f"lora_unet_mid_block_{PROJECTION}.diff_b": torch.ones(64),
    }
    found = merged(tensors, model, file, 2.0)
    middle = "model.diffusion_model.middle_block."
    expected = {f"{middle}0.in_layers.0.weight": 1.0, f"{middle}0.in_layers.0.bias": 0.5, f"{middle}1.proj_in.bias": 2.0}
    assert {name for name in found if found[name] is not tensors[name]} == expected.keys()
    assert all(torch.allclose(found[name], tensors[name] + change) for name, change in expected.items())


def test_a_bias_for_a_layer_without_one_is_refused_by_its_name(model):
    with pytest.raises(InputError, match=r"attn1_to_q has the part diff_b.*has no bias"):
        merged(tiny_tensors(), model, {f"lora_unet_mid_block_{QUERY}.diff_b": torch.ones(64)}, 1.0)


def test_the_names_that_some_trainers_give_mean_the_same_modules(model):
    parts = {"lora_down.weight": torch.randn(2, 64), "lora_up.weight": torch.randn(64, 2)}
    one, other = (
        merged(tiny_tensors(), model, {f"{module}.{part}": value for part, value in parts.items()}, 1.0)
        for module in (f"lora_unet_mid_block_{QUERY}", "lora_unet_middle_block_1_transformer_blocks_0_attn1_to_q")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    text = {"lora_down.weight": torch.randn(2, 32), "lora_up.weight": torch.randn(32, 2)}
    one, other = (
        merged(
            tiny_tensors(),
            model,
            {f"{module}_text_model_encoder_layers_0_self_attn_q_proj.{part}": value for part, value in text.items()},
            1.0,
        )
        for module in ("lora_te", "lora_te1")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("module", "family"),
    [
        ("lora_te2_text_model_encoder_layers_0_mlp_fc1", "SDXL"), ("lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q", "SDXL"),
        ("lora_unet_double_blocks_0_img_attn_qkv", "Flux"), ("lora_unet_nowhere", "another family of models"),
        ("lora_unet_joint_blocks_0_context_block_attn_qkv", "SD3"),
    ],
)  # fmt: skip
def test_a_file_of_another_family_is_named(model, module, family):
    with pytest.raises(InputError, match=rf"no module {module}; .*{family}"):
        merged(tiny_tensors(), model, {f"{module}.lora_up.weight": torch.ones(2, 2)}, 1.0)
