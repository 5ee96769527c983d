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
from lib_finetune.host.webui import weights
from lib_finetune.host.webui.host import WebuiHost
from lib_finetune.model.parking import Parking


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


def test_who_draws_during_a_lease_does_not_draw_the_same_again(host: WebuiHost) -> None:
    """The WebUI's API draws a task name from Python's random state before it queues."""
    host.remember()
    with host.lease():
        during = (torch.rand(1).item(), np.random.rand(), random.random())
    after = (torch.rand(1).item(), np.random.rand(), random.random())
    assert all(one != other for one, other in zip(during, after))
    assert host.restoration().differences == ()


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
    monkeypatch.setattr(weights, "place_of", lambda module: torch.device("cuda"))
    monkeypatch.setattr(type(webui.model.first_stage_model), "to", lambda module, place: moves.append(str(place)))
    with host.lease(parts=("vae",)):
        assert moves == ["cpu"]
    assert moves == ["cpu", "cuda"]


def test_collecting_is_a_matter_of_milliseconds(host: WebuiHost) -> None:
    """A thousand tensors, the best of five: what other programs take of this machine does not count."""
    wide = torch.nn.Module()
    wide.add_module("model", torch.nn.Module())
    wide.model.add_module("diffusion_model", torch.nn.ModuleList([torch.nn.Linear(2, 2) for _ in range(550)]))
    assert len(weights.collect(wide)) == 1100
    assert min(timeit.repeat(lambda: weights.collect(wide), number=1, repeat=5)) < 0.1


def test_status_is_answered_while_a_lease_is_held(host: WebuiHost) -> None:
    answers = []
    with host.lease():
        thread = threading.Thread(target=lambda: answers.append((host.paths, host.memory(), host.checkpoint())))
        thread.start()
        thread.join(60)
    assert len(answers) == 1


# -- alone: the host's model in main memory ------------------------------------------------------------------------------


def parts_that_moved(webui: StubWebui, places: dict[str, int]) -> set[str]:
    found = {name.split(".")[0] for name, tensor in webui.model.named_parameters() if tensor.data_ptr() != places[name]}
    return {{"model": "unet", "cond_stage_model": "text", "first_stage_model": "vae"}[name] for name in found}


@pytest.mark.parametrize(("parts", "moved"), [((), {"unet", "text", "vae"}), (("unet", "text"), {"vae"}), (("text",), {"unet", "vae"})])
def test_the_other_parts_lie_elsewhere_and_come_back_bit_for_bit(host: WebuiHost, webui: StubWebui, parts, moved) -> None:
    kept = dict(webui.model.named_parameters())
    before = {name: tensor.detach().clone() for name, tensor in kept.items()}
    places = {name: tensor.data_ptr() for name, tensor in kept.items()}
    host.remember()
    with host.lease(parts=parts, alone=True) as lease:
        assert parts_that_moved(webui, places) == moved and lease.moved_s >= 0
    after = dict(webui.model.named_parameters())
    assert all(after[name] is tensor and torch.equal(tensor, before[name]) for name, tensor in kept.items())
    webui.generate(lora="cat")
    found = host.restoration()
    assert found.differences == () and found.tensors > 0


def test_an_error_inside_brings_the_model_back_too(host: WebuiHost, webui: StubWebui) -> None:
    before = [tensor.detach().clone() for tensor in webui.model.parameters()]
    host.remember()
    with pytest.raises(ValueError), host.lease(parts=(), alone=True):
        raise ValueError
    assert all(torch.equal(one, other) for one, other in zip(before, webui.model.parameters()))
    assert host.restoration().differences == () and webui.lock.acquire(blocking=False)


@pytest.mark.parametrize("lasting", [False, True])
def test_a_device_that_is_full_on_the_way_back(host: WebuiHost, webui: StubWebui, monkeypatch: pytest.MonkeyPatch, lasting: bool) -> None:
    """First what nobody holds any more is collected; when another program has taken the room, the person is told."""
    real, calls = Parking.bring, []

    def bring(self: Parking) -> None:
        calls.append(1)
        if len(calls) == 1 or lasting:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB. More words")
        real(self)

    monkeypatch.setattr(Parking, "bring", bring)
    collected = []
    webui.devices.torch_gc = lambda: collected.append(1)
    before = [tensor.detach().clone() for tensor in webui.model.parameters()]
    if lasting:
        with pytest.raises(HostError, match="choose another checkpoint"), host.lease(parts=(), alone=True):
            pass
    else:
        with host.lease(parts=(), alone=True):
            pass
    assert collected == [1] and webui.lock.acquire(blocking=False)
    assert all(torch.equal(one, other) for one, other in zip(before, webui.model.parameters()))


def test_with_medvram_the_webui_sends_its_model_away_itself(host: WebuiHost, webui: StubWebui) -> None:
    webui.model.lowvram = True
    sent = []
    webui.lowvram.send_everything_to_cpu = lambda: sent.append(1)
    with host.lease(parts=(), alone=True):
        assert sent
    assert webui.lowvram.module_in_gpu is None


def test_whether_somebody_waits_is_told(host: WebuiHost, webui: StubWebui) -> None:
    with host.lease():
        assert not host.waiting()

        def picture() -> None:
            with webui.lock:
                webui.generate()

        thread = threading.Thread(target=picture)
        thread.start()
        for _ in range(500):
            if host.waiting():
                break
            threading.Event().wait(0.01)
        assert host.waiting()
    thread.join()
    assert not host.waiting()
