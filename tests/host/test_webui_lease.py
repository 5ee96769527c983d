"""Leases of the WebUI's model: the very storage, clean, for the time of a turn and no longer."""

from __future__ import annotations

import gc
import random
import threading
import timeit
import weakref

import numpy as np
import pytest
import torch
from stub_webui import Model, StubWebui

from lib_finetune.errors import CheckpointChangedError, HostError
from lib_finetune.host import webui_weights
from lib_finetune.host.webui import WebuiHost


def checkpoint_name(name: str) -> str:
    return name.replace("wrapped.", "")


def watch_storages(model: torch.nn.Module) -> list[weakref.ref]:
    """Put every weight on memory of numpy's, which lives as long as any tensor lies on it and can be watched.

    Weak references to torch's own storage objects crash torch 2.1.
    """
    watched = []
    for tensor in [*model.parameters(), *model.buffers()]:
        memory = tensor.detach().numpy().copy()
        tensor.data = torch.from_numpy(memory)
        watched.append(weakref.ref(memory))
    return watched


def test_every_tensor_shares_the_hosts_storage_under_its_checkpoint_name(host: WebuiHost, webui: StubWebui) -> None:
    with host.lease() as lease:
        for name, tensor in [*webui.model.named_parameters(), *webui.model.named_buffers()]:
            if "." in name:
                assert lease.tensors[checkpoint_name(name)].data_ptr() == tensor.data_ptr()


def test_names_are_those_of_the_original_checkpoint(host: WebuiHost) -> None:
    with host.lease() as lease:
        assert "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight" in lease.tensors
        assert "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight" in lease.tensors
        assert "first_stage_model.quant_conv.bias" in lease.tensors


def test_tensors_are_detached_and_no_parameters(host: WebuiHost) -> None:
    with host.lease() as lease:
        assert not any(isinstance(tensor, torch.nn.Parameter) or tensor.requires_grad for tensor in lease.tensors.values())


def test_the_schedule_is_the_undistorted_one_in_full_precision(host: WebuiHost, webui: StubWebui) -> None:
    webui.model.alphas_cumprod = webui.model.alphas_cumprod.half() * 0
    with host.lease() as lease:
        assert torch.equal(lease.alphas_cumprod, torch.linspace(0.99, 0.01, 1000))


@pytest.mark.parametrize("end", ["returned", "raised"])
def test_nothing_keeps_the_storage_alive_after_a_lease(host: WebuiHost, webui: StubWebui, end: str) -> None:
    watched = watch_storages(webui.model)
    host.remember()
    kept = []
    try:
        with host.lease() as lease:
            kept.append(lease)
            if end == "raised":
                raise ValueError("of the job")
    except ValueError as error:
        kept.append(error)
    assert all(ref() is not None for ref in watched)
    webui.put_model("b", Model(1))
    gc.collect()
    assert not any(ref() is not None for ref in watched)


def test_a_refused_lease_keeps_nothing_alive(host: WebuiHost, webui: StubWebui) -> None:
    wanted = host.checkpoint()
    webui.put_model("b", Model(1))
    watched = watch_storages(webui.model)
    with pytest.raises(CheckpointChangedError) as caught, host.lease(wanted):
        pass
    webui.put_model("a", Model())
    gc.collect()
    assert caught.value.loaded == "b" and not any(ref() is not None for ref in watched)


def test_an_exception_inside_releases_the_turn(host: WebuiHost, webui: StubWebui) -> None:
    with pytest.raises(ValueError), host.lease():
        raise ValueError
    assert webui.lock.acquire(blocking=False)


def test_another_checkpoint_raises_and_releases_the_turn(host: WebuiHost, webui: StubWebui) -> None:
    wanted = host.checkpoint()
    webui.put_model("b", Model(1))
    with pytest.raises(CheckpointChangedError, match="Waiting for a: the WebUI has loaded b"), host.lease(wanted):
        pass
    assert webui.lock.acquire(blocking=False)


def test_another_vae_raises(host: WebuiHost, webui: StubWebui) -> None:
    wanted = host.checkpoint()
    webui.vae.loaded = "other.vae.pt"
    with pytest.raises(CheckpointChangedError, match="with VAE other"), host.lease(wanted):
        pass


def test_thrown_away_weights_raise_and_release_the_turn(host: WebuiHost, webui: StubWebui) -> None:
    webui.model.to("meta")
    with pytest.raises(HostError, match="unloaded"), host.lease():
        pass
    assert webui.lock.acquire(blocking=False)


def test_no_checkpoint_raises(host: WebuiHost, webui: StubWebui) -> None:
    webui.data.sd_model = webui.shared.sd_model = None
    with pytest.raises(HostError, match="no checkpoint"), host.lease():
        pass


def test_a_lease_inside_a_lease_is_refused_and_does_not_hang(host: WebuiHost) -> None:
    with host.lease(), pytest.raises(RuntimeError, match="already held"), host.lease():
        pass


def test_merged_lora_weights_are_cleaned(host: WebuiHost, webui: StubWebui) -> None:
    clean = [parameter.detach().clone() for parameter in webui.model.parameters()]
    webui.generate(lora="cat")
    with host.lease():
        assert all(torch.equal(a, b) for a, b in zip(clean, webui.model.parameters()))


def test_the_persons_next_picture_is_patched_as_before(host: WebuiHost, webui: StubWebui) -> None:
    before = webui.generate(lora="cat")
    with host.lease():
        pass
    assert [net.name for net in webui.networks.loaded_networks] == ["cat"]
    assert all(torch.equal(a, b) for a, b in zip(before, webui.generate(lora="cat")))


def test_random_states_of_the_host_are_untouched(host: WebuiHost) -> None:
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    expected = (torch.rand(2), np.random.rand(2), random.random())
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    with host.lease():
        torch.manual_seed(9), np.random.seed(9), random.seed(9)
    assert torch.equal(torch.rand(2), expected[0]) and np.array_equal(np.random.rand(2), expected[1]) and random.random() == expected[2]


def test_flags_and_hooks_of_the_host_stay(host: WebuiHost, webui: StubWebui) -> None:
    def look() -> list[tuple[bool, int]]:
        flags = [(parameter.requires_grad, id(parameter)) for parameter in webui.model.parameters()]
        return flags + [(module.training, len(module._forward_hooks) + len(module._forward_pre_hooks)) for module in webui.model.modules()]

    before = look()
    with host.lease():
        assert look() == before
    assert look() == before


def test_without_the_lora_extension_a_lease_works(host: WebuiHost, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.delitem(sys.modules, "networks")
    with host.lease() as lease:
        assert lease.tensors


def test_a_lease_waits_for_the_load_at_start_outside_the_lock(webui: StubWebui, monkeypatch: pytest.MonkeyPatch) -> None:
    free = []

    class Shared(type(webui.shared)):
        @property
        def sd_model(self) -> object:
            free.append(not webui.lock._lock.locked())
            return webui.model

    del webui.shared.sd_model
    webui.shared.__class__ = Shared
    with WebuiHost().lease():
        pass
    assert free == [True]


def test_medvram_leaves_the_unet_as_the_one_module_on_the_card(host: WebuiHost, webui: StubWebui) -> None:
    webui.model.lowvram = True
    with host.lease(parts=("unet", "text")):
        pass
    assert webui.lowvram.module_in_gpu is webui.model.model
    host.remember()
    host.restoration()
    assert webui.lowvram.module_in_gpu is None


def test_a_part_elsewhere_is_brought_and_taken_back(host: WebuiHost, webui: StubWebui, monkeypatch: pytest.MonkeyPatch) -> None:
    moves = []
    monkeypatch.setattr(webui_weights, "place_of", lambda module: torch.device("cuda"))
    monkeypatch.setattr(type(webui.model.first_stage_model), "to", lambda module, place: moves.append(str(place)))
    with host.lease(parts=("vae",)):
        assert moves == ["cpu"]
    assert moves == ["cpu", "cuda"]


def test_collecting_is_a_matter_of_milliseconds(host: WebuiHost) -> None:
    """A thousand tensors, the best of five: what other programs take of this machine does not count."""
    wide = torch.nn.Module()
    wide.add_module("model", torch.nn.Module())
    wide.model.add_module("diffusion_model", torch.nn.ModuleList([torch.nn.Linear(2, 2) for _ in range(550)]))
    assert len(webui_weights.collect(wide)) == 1100
    assert min(timeit.repeat(lambda: webui_weights.collect(wide), number=1, repeat=5)) < 0.1


def test_status_is_answered_while_a_lease_is_held(host: WebuiHost) -> None:
    answers = []
    with host.lease():
        thread = threading.Thread(target=lambda: answers.append((host.paths, host.memory(), host.checkpoint())))
        thread.start()
        thread.join(60)
    assert len(answers) == 1
