"""The comparison of the host before and after a run: what we did is named, what the person did is not."""

from __future__ import annotations

import json
import re
from contextlib import suppress

import pytest
import torch
from stub_webui import Model, StubWebui

from lib_finetune.errors import WeightsChangedError
from lib_finetune.host.webui.host import WebuiHost
from lib_finetune.ports.pictures import PictureRequest

TO_Q = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q"


class Attention:
    """An object without a representation of its own."""


def to_q(webui: StubWebui) -> torch.nn.Linear:
    return webui.model.model.diffusion_model.input_blocks[1][1].transformer_blocks[0].attn1.to_q


def differences(host: WebuiHost) -> str:
    return "; ".join(host.restoration().differences)


def test_a_run_that_changed_nothing_says_so(host: WebuiHost, webui: StubWebui) -> None:
    host.remember()
    for _ in range(3):
        with suppress(WeightsChangedError), host.lease():
            torch.manual_seed(1)
        host.between_turns()
    found = host.restoration()
    expected = len(list(webui.model.parameters())) + len(list(webui.model.buffers())) - 1
    assert found.differences == () and found.tensors == expected and "exactly as it was" in found.line


def test_a_write_through_the_lease_is_named(host: WebuiHost, webui: StubWebui) -> None:
    host.remember()
    with suppress(WeightsChangedError), host.lease() as lease:
        lease.tensors[f"{TO_Q}.weight"][0, 0] += 1
    assert differences(host) == f"{TO_Q}.weight was written to"


def test_a_write_that_no_counter_sees_is_found_by_the_digest(host: WebuiHost, webui: StubWebui) -> None:
    host.remember()
    with suppress(WeightsChangedError), host.lease():
        to_q(webui).weight.data[0, 0] += 1
    assert differences(host) == f"{TO_Q}.weight has other values"


def test_a_flag_a_hook_and_a_forward_are_named(host: WebuiHost, webui: StubWebui) -> None:
    host.remember()
    with suppress(WeightsChangedError), host.lease():
        to_q(webui).weight.requires_grad_(False)
    with suppress(WeightsChangedError), host.lease():
        to_q(webui).register_forward_hook(lambda *_: None)
    with suppress(WeightsChangedError), host.lease():
        webui.model.first_stage_model.forward = lambda x: x
    with suppress(WeightsChangedError), host.lease():
        webui.model.train()
    found = host.restoration().differences
    assert f"{TO_Q}.weight has requires_grad False, had True" in found
    assert any(said.startswith(f"the module {TO_Q} is") for said in found)
    assert any(said.startswith("the module first_stage_model is") for said in found)
    assert any(said.startswith("the module model is (True") for said in found)


def test_a_replaced_weight_is_named(host: WebuiHost, webui: StubWebui) -> None:
    host.remember()
    with suppress(WeightsChangedError), host.lease():
        to_q(webui).weight = torch.nn.Parameter(to_q(webui).weight.detach().double())
    assert "is torch.float64, was torch.float32" in differences(host)


def test_the_line_names_at_most_three_and_counts_the_others(host: WebuiHost, webui: StubWebui) -> None:
    host.remember()
    with suppress(WeightsChangedError), host.lease() as lease:
        for tensor in lease.tensors.values():
            tensor += 1
    found = host.restoration()
    assert len(found.differences) > 5
    assert found.line == f"NOT as it was: {'; '.join(found.differences[:3])}; and {len(found.differences) - 3} more"


@pytest.mark.parametrize("count", [1, 3])
def test_up_to_three_are_all_named(host: WebuiHost, webui: StubWebui, count: int) -> None:
    host.remember()
    with suppress(WeightsChangedError), host.lease() as lease:
        for name in list(lease.tensors)[:count]:
            lease.tensors[name] += 1
    found = host.restoration()
    assert found.line == f"NOT as it was: {'; '.join(found.differences)}" and len(found.differences) == count


def test_no_address_in_memory_is_told(host: WebuiHost, webui: StubWebui, monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions and objects are told by their names."""

    def blurred(*_: object) -> None:
        pass

    host.remember()
    with suppress(WeightsChangedError), host.lease():
        to_q(webui).register_forward_hook(blurred)
        webui.model.first_stage_model.forward = blurred
        monkeypatch.setattr(torch.nn.Linear, "forward", blurred)
        webui.hijack.model_hijack.optimization_method = Attention()
        webui.shared.opts.data["a"] = Attention()
    found = differences(host)
    monkeypatch.undo()
    assert found.count("blurred") == 3 and "Attention" in found
    assert not re.search(r"0x[0-9a-f]{4}|[0-9]{6}", found), found


def test_two_functions_of_one_name_are_told_apart(host: WebuiHost, webui: StubWebui) -> None:
    to_q(webui).register_forward_hook(lambda *_: None)
    host.remember()
    with suppress(WeightsChangedError), host.lease():
        to_q(webui)._forward_hooks.clear()
        to_q(webui).register_forward_hook(lambda *_: None)
    assert f"the module {TO_Q} is" in differences(host)


@pytest.mark.parametrize(
    ("change", "undo", "said"),
    [
        (
            lambda: setattr(torch.backends.cudnn, "benchmark", True),
            lambda: setattr(torch.backends.cudnn, "benchmark", False),
            "torch's cudnn.benchmark",
        ),
        (lambda: torch.set_default_dtype(torch.float64), lambda: torch.set_default_dtype(torch.float32), "torch's default dtype"),
        (lambda: torch.set_grad_enabled(False), lambda: torch.set_grad_enabled(True), "torch's grad mode"),
    ],
)
def test_a_flag_of_torch_is_named(host: WebuiHost, change, undo, said: str) -> None:
    host.remember()
    with suppress(WeightsChangedError), host.lease():
        change()
    undo()
    assert said in differences(host)


def test_the_attention_optimisation_and_the_networks_are_named(host: WebuiHost, webui: StubWebui) -> None:
    webui.generate(lora="cat")
    host.remember()
    with suppress(WeightsChangedError), host.lease():
        webui.hijack.model_hijack.optimization_method = "V1"
        webui.networks.loaded_networks.clear()
    found = differences(host)
    assert "the attention optimisation" in found and "the list of active networks" in found


def test_pictures_of_the_person_between_turns_are_not_blamed_on_us(host: WebuiHost, webui: StubWebui) -> None:
    host.remember()
    for lora in ("cat", None, "dog"):
        with suppress(WeightsChangedError), host.lease():
            pass
        webui.generate(lora)
        torch.rand(4)
    assert differences(host) == ""


def test_another_checkpoint_and_back_is_not_blamed_on_us(host: WebuiHost, webui: StubWebui) -> None:
    host.remember()
    with suppress(WeightsChangedError), host.lease():
        pass
    webui.put_model("b", Model(1))
    webui.put_model("a", Model())
    with suppress(WeightsChangedError), host.lease():
        pass
    assert host.restoration().differences == ()


def test_a_checkpoint_that_is_gone_leaves_the_word_to_the_turns(host: WebuiHost, webui: StubWebui) -> None:
    host.remember()
    with suppress(WeightsChangedError), host.lease() as lease:
        lease.tensors[f"{TO_Q}.weight"].zero_()
    webui.put_model("b", Model(1))
    found = host.restoration()
    assert found.differences == (f"{TO_Q}.weight was written to",) and found.tensors == 0


def test_settings_changed_between_turns_are_not_blamed_on_us(host: WebuiHost, webui: StubWebui) -> None:
    host.remember()
    webui.shared.opts.data["sd_vae"] = "None"
    with suppress(WeightsChangedError), host.lease():
        pass
    assert differences(host) == ""


def test_settings_saved_by_the_person_during_a_turn_are_not_blamed_on_us(host: WebuiHost, webui: StubWebui) -> None:
    host.remember()
    with suppress(WeightsChangedError), host.lease():
        webui.shared.opts.data["CLIP_stop_at_last_layers"] = 2
        (webui.root / "config.json").write_text(json.dumps(webui.shared.opts.data))
    assert differences(host) == ""


def test_a_setting_left_changed_by_us_is_named(host: WebuiHost, webui: StubWebui) -> None:
    host.remember()
    with suppress(WeightsChangedError), host.lease():
        webui.shared.opts.data["sd_vae"] = "None"
    assert differences(host) == "the setting sd_vae is 'None', was 'Automatic'"


def test_a_precision_changed_by_the_host_between_turns_is_not_blamed_on_us(host: WebuiHost, webui: StubWebui) -> None:
    """As the WebUI does when its VAE gives NaN in half precision."""
    host.remember()
    with suppress(WeightsChangedError), host.lease():
        pass
    webui.model.first_stage_model.to(torch.bfloat16)
    with suppress(WeightsChangedError), host.lease():
        pass
    assert differences(host) == ""


def test_a_weight_that_an_extension_leaves_changed_after_an_image_of_ours_ends_the_run(host: WebuiHost, webui: StubWebui) -> None:
    host.remember()

    def during() -> None:
        with torch.no_grad():
            to_q(webui).weight[0, 0] += 1

    webui.during_picture = during
    with pytest.raises(WeightsChangedError, match=rf"{TO_Q}\.weight.*could not be put back") as caught:
        host.pictures.make(PictureRequest("a cat"))
    assert not caught.value.in_training
    with pytest.raises(WeightsChangedError), host.lease():
        pass
    assert differences(host) == f"{TO_Q}.weight has other values"


def test_what_an_extension_adds_or_recasts_during_an_image_of_ours_is_its_own(host: WebuiHost, webui: StubWebui) -> None:
    host.remember()

    def during() -> None:
        webui.model.add_module("of_an_extension", torch.nn.Linear(2, 2))
        webui.model.first_stage_model.to(torch.bfloat16)

    webui.during_picture = during
    host.pictures.make(PictureRequest("a cat"))
    with host.lease():
        pass
    assert differences(host) == ""


def test_the_watch_ends_with_the_run(host: WebuiHost) -> None:
    host.remember()
    host.restoration()
    assert host.restoration().tensors == 0
