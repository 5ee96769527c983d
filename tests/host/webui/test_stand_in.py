"""A checkpoint that stands in for one image whose prompt names a LoRA: the Lora extension's backups are of no other weights than they were."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from stub_webui import StubWebui

from lib_finetune.errors import HostError
from lib_finetune.host.webui.host import WebuiHost
from lib_finetune.ports.pictures import PictureRequest

PATCHED = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.LayerNorm)
TRAINED = ("model.diffusion_model.", "cond_stage_model.")


def values(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.named_parameters()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def backups(model: torch.nn.Module) -> list[tuple[object, ...]]:
    """What the extension has written down about each layer; tensors by their values."""
    found = []
    for module in model.modules():
        kept = [module.__dict__.get(name) for name in ("network_current_names", "network_weights_backup", "network_bias_backup")]
        found.append(tuple(each.sum().item() if isinstance(each, torch.Tensor) else each for each in kept))
    return found


@pytest.fixture
def whole(webui: StubWebui, tmp_path: Path) -> Path:
    """A trained checkpoint, with weights other than the host's in every place."""
    path = tmp_path / "whole.safetensors"
    names = {name.replace("wrapped.", ""): value for name, value in values(webui.model).items()}
    save_file({name: torch.full_like(value, 0.25) for name, value in names.items() if name.startswith(TRAINED)}, str(path))
    return path


@pytest.mark.parametrize("functional", [False, True])
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("used_before", [None, "cat", "cat, taken off again"])
def test_the_hosts_weights_stay_and_the_picture_is_of_the_trained_ones(
    host: WebuiHost, webui: StubWebui, whole: Path, used_before: str | None, fails: bool, functional: bool
) -> None:
    before = values(webui.model)
    if used_before:
        webui.generate(lora="cat")
    if used_before and used_before != "cat":
        webui.generate()
    webui.shared.opts.lora_functional = functional
    seen: list[torch.Tensor] = []

    def picture() -> None:
        webui.generate(lora="dog")
        seen.extend(module.weight.detach().clone() for module in webui.model.model.modules() if isinstance(module, PATCHED))
        if fails:
            raise ArithmeticError("A tensor with NaNs was produced in UNet")

    webui.during_picture = picture
    if fails:
        with pytest.raises(HostError, match="NaNs"):
            host.pictures.make(PictureRequest("a cat", checkpoint=whole))
    else:
        host.pictures.make(PictureRequest("a cat", checkpoint=whole))
    webui.shared.opts.lora_functional = False
    assert seen and all(torch.equal(weight, torch.full_like(weight, 0.25 if functional else 0.75)) for weight in seen)
    assert same(values(webui.model), before)
    webui.generate(lora="dog")
    webui.generate()
    assert same(values(webui.model), before)


def test_an_older_backup_is_there_again_afterwards(host: WebuiHost, webui: StubWebui, whole: Path) -> None:
    webui.generate(lora="cat")
    webui.generate()
    before = backups(webui.model)
    webui.during_picture = lambda: webui.generate(lora="dog")
    host.pictures.make(PictureRequest("a cat", checkpoint=whole))
    assert backups(webui.model) == before


def test_without_an_older_backup_there_is_none_afterwards(host: WebuiHost, webui: StubWebui, whole: Path) -> None:
    before = backups(webui.model)
    webui.during_picture = lambda: webui.generate(lora="dog")
    host.pictures.make(PictureRequest("a cat", checkpoint=whole))
    assert [tuple(each or None for each in kept) for kept in backups(webui.model)] == before


def test_a_parameter_that_was_replaced_meanwhile_is_the_hosts_own_again(host: WebuiHost, webui: StubWebui, whole: Path) -> None:
    """As sd-webui-cd-tuner does it."""
    layer = webui.model.model.diffusion_model.input_blocks[0][0]
    own, before = layer.weight, values(webui.model)

    def picture() -> None:
        layer.weight = torch.nn.Parameter(layer.weight.detach() * 2)

    webui.during_picture = picture
    host.pictures.make(PictureRequest("a cat", checkpoint=whole))
    assert layer.weight is own and same(values(webui.model), before)


def test_a_cleaning_that_fails_does_not_keep_the_trained_weights_in(host: WebuiHost, webui: StubWebui, whole: Path) -> None:
    before, real = values(webui.model), webui.networks.network_apply_weights
    webui.during_picture = lambda: (webui.generate(lora="dog"), setattr(webui.networks, "network_apply_weights", broken))

    def broken(module: torch.nn.Module) -> None:
        raise RuntimeError("no backup weights found and current weights are not unchanged")

    with pytest.raises(RuntimeError, match="no backup"):
        host.pictures.make(PictureRequest("a cat", checkpoint=whole))
    webui.networks.network_apply_weights = real
    webui.generate()
    assert same(values(webui.model), before) and webui.lock.acquire(blocking=False)
