"""The borrowed view holds the host's storage, and only while it is bound."""

import gc
import weakref

import pytest
import torch

from lib_finetune.errors import CheckpointError
from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.layout import infer
from lib_finetune.model.random_weights import small_layout
from tests.fakes.host import tiny_tensors

CPU = torch.device("cpu")


@pytest.fixture
def model():
    return BorrowedModel(small_layout())


def test_every_parameter_shares_the_storage_of_the_host(model):
    tensors = tiny_tensors()
    with model.bound(tensors):
        for slot in model.slots:
            assert slot.module._parameters[slot.leaf].data_ptr() == tensors[slot.source].data_ptr()


def test_reshaped_parameters_are_views(model):
    tensors = tiny_tensors()
    with model.bound(tensors):
        weight = model.vae.encoder.mid_block.attentions[0].to_q.weight
        source = tensors["first_stage_model.encoder.mid.attn_1.q.weight"]
        assert weight.dim() == 2 and source.dim() == 4 and weight.data_ptr() == source.data_ptr()


def test_nothing_holds_the_storage_after_the_turn(model):
    tensors = tiny_tensors()
    watched = [weakref.ref(tensor) for tensor in tensors.values()]
    with model.bound(tensors):
        model.unet(torch.randn(1, 4, 8, 8), torch.tensor([5]), torch.randn(1, 77, 32))
    del tensors
    gc.collect()
    assert not any(reference() is not None for reference in watched)
    assert all(parameter.device.type == "meta" for parameter in model.unet.parameters())


def test_the_flags_of_the_host_stay(model):
    tensors = {name: torch.nn.Parameter(tensor, requires_grad=True) for name, tensor in tiny_tensors().items()}
    with model.bound(tensors):
        assert not any(parameter.requires_grad for parameter in model.unet.parameters())
        assert all(parameter.requires_grad for parameter in tensors.values())


def test_another_storage_can_be_bound_next_time(model):
    first, second = tiny_tensors(0), tiny_tensors(1)
    with model.bound(first):
        before = model.unet.conv_in.weight.clone()
    with model.bound(second):
        assert not torch.equal(before, model.unet.conv_in.weight)


def test_a_missing_weight_is_named(model):
    tensors = tiny_tensors()
    del tensors["model.diffusion_model.out.2.bias"]
    with pytest.raises(CheckpointError, match=r"out\.2\.bias"):
        model.bind(tensors)


@pytest.mark.parametrize(
    ("change", "family"),
    [
        ({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(32, 9, 3, 3)}, "inpainting"),
        ({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(32, 8, 3, 3)}, "pix2pix"),
        ({"cond_stage_model.model.ln_final.weight": torch.zeros(4)}, "SD2"),
        ({"conditioner.embedders.0.weight": torch.zeros(4)}, "SDXL"),
    ],
)
def test_other_families_are_refused_by_name(change, family):
    with pytest.raises(CheckpointError, match=family):
        infer({**tiny_tensors(), **change})


def test_a_file_that_is_no_checkpoint_says_what_is_missing():
    with pytest.raises(CheckpointError, match="input_blocks"):
        infer({"some.lora_up.weight": torch.zeros(2)})


def _kinds(tensors):
    """One name for each kind of weight that has a shape to get wrong: by part, number of dimensions and last words."""
    kinds = {}
    for name, tensor in tensors.items():
        if tensor.dim() > 1 and tensor.shape[0] != tensor.shape[1]:
            part = name.split(".")[0]
            kinds.setdefault((part, tensor.dim(), tensor.shape[2:], ".".join(name.split(".")[-2:])), name)
    return sorted(kinds.values())


@pytest.mark.parametrize("name", _kinds(tiny_tensors()))
def test_a_transposed_weight_is_refused_by_name(name):
    tensors = tiny_tensors()
    tensors[name] = tensors[name].transpose(0, 1).contiguous()
    with pytest.raises(CheckpointError, match=r"4 input channels|input channels|Stable Diffusion 1\.x") as caught:
        BorrowedModel(infer(tensors)).bind(tensors)
    assert "×" in str(caught.value) or "checkpoint" in str(caught.value)


def test_flattened_and_swapped_kernels_are_refused(model):
    for change in (lambda tensor: tensor.flatten(1), lambda tensor: tensor.reshape(-1), lambda tensor: tensor.unsqueeze(0)):
        tensors = tiny_tensors()
        name = "model.diffusion_model.input_blocks.1.0.in_layers.2.weight"
        tensors[name] = change(tensors[name])
        with pytest.raises(CheckpointError, match="input_blocks"):
            model.bind(tensors)
        assert all(slot.module._parameters[slot.leaf] is slot.empty for slot in model.slots)


def test_a_linear_layer_may_be_written_as_a_1x1_convolution_and_back(model):
    tensors = tiny_tensors()
    for name, tensor in list(tensors.items()):
        if tensor.dim() == 2 and ("attn1" in name or "proj" in name or "attn_1" in name):
            tensors[name] = tensor[:, :, None, None]
        elif tensor.dim() == 4 and tensor.shape[2:] == (1, 1):
            tensors[name] = tensor[:, :, 0, 0]
    with model.bound(tensors):
        for slot in model.slots:
            assert slot.module._parameters[slot.leaf].data_ptr() == tensors[slot.source].data_ptr()


@pytest.mark.parametrize("lies", ["contiguous", "channels_last", "transposed", "every other", "expanded"])
def test_own_weights_are_each_in_a_place_of_their_own(model, lies):
    """Dense and nothing over anything else, however the host's lie: optimizers write to bare memory."""
    places = {
        "contiguous": lambda tensor: tensor,
        "channels_last": lambda tensor: tensor.to(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor,
        "transposed": lambda tensor: tensor.permute(*reversed(range(tensor.ndim))).contiguous().permute(*reversed(range(tensor.ndim))),
        "every other": lambda tensor: tensor.repeat_interleave(2, dim=-1)[..., ::2] if tensor.shape[-1] > 1 else tensor,
        "expanded": lambda tensor: tensor[:1].expand_as(tensor),
    }
    tensors = {name: places[lies](tensor) for name, tensor in tiny_tensors().items()}
    if lies == "transposed":  # a convolution that stands for a linear layer is seated by a view
        tensors |= {name: tensor for name, tensor in tiny_tensors().items() if tensor.shape[2:] == (1, 1)}
    with model.bound(tensors):
        own = model.own(("unet", "text"), torch.float32, CPU)
        for name, weight in (pair for part in own.values() for pair in part.items()):
            assert weight.untyped_storage().nbytes() == weight.numel() * weight.element_size(), name
            assert torch.equal(weight, tensors[name].reshape(weight.shape))
