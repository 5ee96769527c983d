"""Every optimizer that can be had here moves its parameters, takes its rate from the groups, and resumes."""

import importlib.util

import pytest
import torch

from lib_finetune.config import settings
from lib_finetune.errors import DependencyError
from lib_finetune.estimates import memory_model
from lib_finetune.training.optim import OPTIMIZERS, adamw8bit, automatic_rates, rate_warnings

PACKAGES = {"adamw8bit": "bitsandbytes", "lion": "lion_pytorch", "prodigy": "prodigyopt"}
HERE = [name for name in OPTIMIZERS if name not in PACKAGES or importlib.util.find_spec(PACKAGES[name])]


def make(name, decay=0.0):
    parameter = torch.nn.Parameter(torch.ones(4, 4))
    return parameter, OPTIMIZERS[name].build({"unet": [parameter], "text encoder": []}, decay)


def step(parameter, optimizer, rate):
    for group in optimizer.param_groups:
        group["lr"] = rate
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def test_settings_and_memory_figures_know_each_optimizer():
    assert set(settings.OPTIMIZERS) - {"auto"} == set(OPTIMIZERS)
    assert {"adamw", *memory_model._STATES} == set(OPTIMIZERS)


RATES = {"prodigy": 1.0}  # it finds its own and starts from 1e-6


@pytest.mark.parametrize("name", HERE)
def test_it_moves_by_the_rate_of_its_group(name):
    moved = {}
    top = RATES.get(name, 1e-3)
    for rate in (0.0, top):
        parameter, optimizer = make(name)
        assert [group["name"] for group in optimizer.param_groups] == ["unet"]
        for _ in range(5):
            step(parameter, optimizer, rate)
        moved[rate] = (parameter - 1).abs().max().item()
    assert moved[0.0] == 0 and moved[top] > 0


@pytest.mark.parametrize("name", HERE)
def test_weight_decay_counts(name):
    ends = []
    for decay in (0.0, 0.5):
        parameter, optimizer = make(name, decay)
        for _ in range(20):
            step(parameter, optimizer, RATES.get(name, 1e-2))
        ends.append(parameter.detach().clone())
    assert not torch.equal(*ends)


@pytest.mark.parametrize("name", HERE)
def test_it_goes_on_from_its_state_exactly(name, tmp_path):
    from lib_finetune.training import state

    parameter, optimizer = make(name, 0.01)
    for _ in range(3):
        step(parameter, optimizer, 1e-2)
    state.save(tmp_path / "s.safetensors", {"p": parameter, "o": optimizer.state_dict()})
    stored = state.load(tmp_path / "s.safetensors")
    other, again = make(name, 0.01)
    other.data.copy_(stored["p"])
    again.load_state_dict(stored["o"])
    for _ in range(3):
        step(parameter, optimizer, 1e-2)
        step(other, again, 1e-2)
    assert torch.equal(parameter, other)


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
@pytest.mark.parametrize(("cuda", "version"), [("11.8", "0.45.5"), ("12.1", "0.45.5"), ("12.8", "0.45.5"), ("13.0", "0.48.2")])
def test_a_missing_library_is_named_with_its_command(monkeypatch, cuda, version):
    monkeypatch.setattr(torch.version, "cuda", cuda)
    with pytest.raises(DependencyError, match=f"pip install --no-deps bitsandbytes=={version}"):
        make("adamw8bit")


def test_the_8_bit_optimizer_is_refused_where_torch_is_not_made_for_cuda(monkeypatch):
    """On ROCm the device is called "cuda", too."""
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(DependencyError, match="made for CUDA"):
        make("adamw8bit")


class Broken(torch.optim.SGD):
    """A build without kernels for this card."""

    def step(self, closure=None):
        raise NameError("name 'str2optimizer8bit_blockwise' is not defined")


class Idle(torch.optim.SGD):
    """Moves nothing."""

    def step(self, closure=None):
        return None


@pytest.mark.parametrize(("kind", "reason"), [(torch.optim.SGD, None), (Broken, "not defined"), (Idle, "does not move")])
def test_one_tensor_is_tried_before_the_run(kind, reason):
    found = adamw8bit._failure(kind, torch.device("cpu"))
    assert found is None if reason is None else reason in str(found)


def test_the_automatic_rate_follows_alpha_and_optimizer():
    adamw, lion, prodigy = OPTIMIZERS["adamw"], OPTIMIZERS["lion"], OPTIMIZERS["prodigy"]
    assert automatic_rates(adamw, 16, 16) == pytest.approx((1e-4, 5e-5))
    assert automatic_rates(adamw, 16, 8) == pytest.approx((2e-4, 1e-4))
    assert automatic_rates(adamw, 128, 1)[0] == pytest.approx(1e-3)
    assert automatic_rates(lion, 16, 16)[0] == pytest.approx(2e-5)
    assert automatic_rates(prodigy, 16, 1) == (1.0, 1.0)


def test_a_rate_that_does_not_fit_is_warned_of():
    assert rate_warnings("prodigy", {"unet": 1e-4}, {"unet": 1.0})
    assert not rate_warnings("adamw", {"unet": 3e-4}, {"unet": 1e-4})
