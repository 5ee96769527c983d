"""A base in float32 that is computed in 16 bits: copies of frozen weights once a turn, with the bits of casts in every step."""

import pytest
import torch

from lib_finetune.assembly import builder
from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.random_weights import small_layout
from tests.fakes.host import tiny_tensors
from tests.fakes.runs import Bench, same, tensors

RUN = {"training.precision": "bf16", "training.steps": "3", "name": "zxqcat", "saving.precision": "fp32"}
FORMS = [
    {"network.text_encoder": "true"},
    {"network.text_encoder": "false", "network.adapter": "loha", "objective.prior": "prediction"},
    {"network.conv_rank": "2", "network.dropout": "0.5"},
    {"method": "textual_inversion"},
]


@pytest.mark.parametrize("changes", FORMS)
def test_they_give_the_bits_of_casts_in_every_step(tmp_path, monkeypatch, changes):
    bench = Bench(tmp_path)
    copied = bench.run({**RUN, **changes}, host=bench.host("copied"))[0]
    monkeypatch.setattr(BorrowedModel, "compute_in", lambda *_: None)
    cast = bench.run({**RUN, **changes}, host=bench.host("cast"))[0]
    assert same(tensors(copied.file), tensors(cast.file)) and copied.restoration.differences == ()


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"network.text_encoder": "true"}, ("unet", "text")),
        ({"network.text_encoder": "false"}, ("unet",)),
        ({"method": "textual_inversion"}, ("unet", "text")),
        ({"training.gradient_checkpointing": "true"}, ()),
        ({"method": "dreambooth"}, ()),
        ({"training.precision": "fp32"}, ()),
    ],
)
def test_what_every_step_computes_with_is_copied_where_a_step_would_hold_the_casts(tmp_path, monkeypatch, changes, parts):
    asked = [()]
    monkeypatch.setattr(BorrowedModel, "compute_in", lambda _self, _dtype, own: asked.append(tuple(own)))
    Bench(tmp_path).run({**RUN, "training.steps": "1", **changes})
    assert asked[-1] == parts


def test_copies_live_while_the_view_is_bound_and_the_hosts_tensors_stay():
    held, model = tiny_tensors(), BorrowedModel(small_layout())
    model.compute_in(torch.bfloat16, ("unet",))
    with model.bound(held):
        weights = dict(model.unet.named_parameters())
        assert weights["conv_in.weight"].dtype == weights["time_embedding.linear_1.bias"].dtype == torch.bfloat16
        assert weights["conv_norm_out.weight"].dtype == torch.float32
        assert {weight.dtype for weight in model.text.parameters()} == {torch.float32}
    assert {weight.device.type for weight in model.unet.parameters()} == {"meta"}
    assert all(torch.equal(tensor, held[name]) for name, tensor in tiny_tensors().items())


def test_the_second_try_with_checkpointing_makes_no_copies():
    model = BorrowedModel(small_layout())
    model.compute_in(torch.bfloat16, ("unet",))
    builder.checkpoint_gradients(model)
    with model.bound(tiny_tensors()):
        assert model.unet.conv_in.weight.dtype == torch.float32
