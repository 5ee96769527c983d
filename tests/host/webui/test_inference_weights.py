"""The WebUI's own weights made under `torch.inference_mode`: leased, patched, written back and watched like any others."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch
from stub_webui import Model, StubWebui

from lib_finetune.errors import WeightsChangedError
from lib_finetune.host.webui.host import WebuiHost


@pytest.fixture
def inference_weights(webui: StubWebui) -> None:
    """An extension has loaded the checkpoint under inference mode."""
    with torch.inference_mode():
        for module in webui.model.modules():
            for name, own in list(module._parameters.items()):
                module._parameters[name] = (
                    None if own is None else torch.nn.Parameter(own.detach().clone(), requires_grad=own.requires_grad)
                )


@pytest.mark.usefixtures("inference_weights")
def test_a_lease_lends_their_storage_as_tensors_that_autograd_takes(host: WebuiHost, webui: StubWebui) -> None:
    host.remember()
    with host.lease() as lease:
        own = dict(webui.model.named_parameters())
        lent = [tensor for name, tensor in lease.tensors.items() if name in own]
        assert lent and not any(tensor.is_inference() for tensor in lent)
        assert {tensor.data_ptr() for tensor in lent} <= {parameter.data_ptr() for parameter in own.values()}
    assert host.restoration().differences == ()


@pytest.mark.usefixtures("inference_weights")
def test_a_write_to_them_is_found_at_the_end(host: WebuiHost, webui: StubWebui) -> None:
    host.remember()
    with suppress(WeightsChangedError), host.lease() as lease:
        name, tensor = next((name, tensor) for name, tensor in lease.tensors.items() if name.startswith("model."))
        tensor.view(-1)[0] += 1
    assert f"{name} has other values" in host.restoration().differences


@pytest.mark.usefixtures("inference_weights")
def test_patches_of_the_lora_extension_are_taken_out_of_them(host: WebuiHost, webui: StubWebui) -> None:
    with host.lease() as lease:
        clean = {name: tensor.clone() for name, tensor in lease.tensors.items()}
    with torch.inference_mode():  # as the WebUI makes its images there
        webui.generate(lora="style")
    with host.lease() as lease:
        assert all(torch.equal(tensor, clean[name]) for name, tensor in lease.tensors.items())


def test_the_models_of_the_stub_differ() -> None:
    """What the tests above compare can differ."""
    first, second = (next(Model(seed).parameters()) for seed in (0, 1))
    assert not torch.equal(first, second)
