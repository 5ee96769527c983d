"""Layers of the view compute whatever extensions put into torch's classes."""

import pytest
import torch
from torch import nn

from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.random_weights import small_layout
from tests.fakes.host import tiny_tensors


@torch.no_grad()
def outputs():
    model = BorrowedModel(small_layout())
    model.bind(tiny_tensors())
    images = torch.linspace(-1, 1, 3 * 16 * 16).view(1, 3, 16, 16)
    text = model.text(input_ids=torch.full((1, 77), 49407)).last_hidden_state
    return model.unet(images[:, :, :8, :8].mean(1, keepdim=True).expand(1, 4, 8, 8), torch.tensor([7]), text).sample, model.vae.encode(
        images
    ).latent_dist.mean


@pytest.mark.parametrize("kind", [nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm])
def test_no_call_goes_through_a_forward_that_was_put_into_torchs_class(kind, monkeypatch):
    before = outputs()

    def patched(self, *_):
        raise AssertionError(f"the patched forward of {type(self)} was asked")

    monkeypatch.setattr(kind, "forward", patched)
    assert all(torch.equal(own, other) for own, other in zip(outputs(), before, strict=True))


def test_the_layers_stay_instances_of_their_classes():
    model = BorrowedModel(small_layout())
    assert isinstance(model.unet.conv_in, nn.Conv2d) and isinstance(model.unet.time_embedding.linear_1, nn.Linear)
    assert type(model.text.final_layer_norm).__name__ == "LayerNorm"
