"""Every registered adapter: nothing at the start, the file says what the layers do, the weights are float32."""

import pytest
import torch

from lib_finetune.config import settings
from lib_finetune.errors import InputError
from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.lora_merge import by_module, delta, merged
from lib_finetune.model.random_weights import small_layout
from lib_finetune.training.adapters import ADAPTERS, AdapterOptions
from lib_finetune.training.adapters.targets import text_targets, unet_targets
from tests.fakes.host import tiny_tensors

INPUT = (torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 700]), torch.ones(2, 77, 32))


def attach(name, tensors, conv_rank=2, dropout=0.0):
    torch.manual_seed(0)
    model = BorrowedModel(small_layout())
    model.bind(tensors)
    targets = unet_targets(model.unet, "all", 4, 2, conv_rank, 1) + text_targets(model.text, 4, 2)
    adapter = ADAPTERS[name]({"unet": model.unet, "text": model.text}, targets, AdapterOptions(dropout, factor=4))
    return model, adapter


def shake(adapter):
    """Move every weight off its start."""
    generator = torch.Generator().manual_seed(7)
    for part in ("unet", "text"):
        for weight in adapter.parameters(part).values():
            weight.data += 0.05 * torch.randn(weight.shape, generator=generator)


@torch.no_grad()
def output(model):
    return model.unet(*INPUT).sample


def test_the_settings_know_each_adapter():
    assert set(settings.ADAPTERS) == set(ADAPTERS)


@pytest.mark.parametrize("name", list(ADAPTERS))
def test_an_adapter_changes_nothing_at_the_start(name):
    tensors = tiny_tensors()
    plain = BorrowedModel(small_layout())
    plain.bind(tensors)
    model, _ = attach(name, tensors)
    assert torch.equal(output(model), output(plain))


@pytest.mark.parametrize("name", list(ADAPTERS))
def test_the_file_merged_into_the_weights_gives_the_same_output(name):
    tensors = tiny_tensors()
    model, adapter = attach(name, tensors)
    shake(adapter)
    plain = BorrowedModel(small_layout())
    plain.bind(merged(tensors, plain, adapter.state(), 1.0))
    ours, theirs = output(model), output(plain)
    base = BorrowedModel(small_layout())
    base.bind(tensors)
    assert (ours - output(base)).abs().max() > 1e-3
    assert torch.allclose(ours, theirs, atol=2e-3)  # rounding, through sixteen residual blocks with large random patches


@pytest.mark.parametrize("name", list(ADAPTERS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_float32_whatever_the_base_is_and_all_get_gradients(name, dtype):
    model, adapter = attach(name, {key: value.to(dtype) for key, value in tiny_tensors().items()})
    shake(adapter)
    cond = model.text(input_ids=torch.full((2, 77), 49407)).last_hidden_state
    model.unet(INPUT[0].to(dtype), INPUT[1], cond).sample.float().square().mean().backward()
    for part in ("unet", "text"):
        for key, weight in adapter.parameters(part).items():
            assert weight.dtype == torch.float32
            assert weight.grad is not None and torch.isfinite(weight.grad).all(), key


@pytest.mark.parametrize("name", list(ADAPTERS))
def test_the_base_gets_no_gradient(name):
    tensors = tiny_tensors()
    model, _ = attach(name, tensors)
    model.unet(*INPUT).sample.mean().backward()
    assert all(tensor.grad is None for tensor in tensors.values())
    assert not any(slot.module._parameters[slot.leaf].requires_grad for slot in model.slots)


@pytest.mark.parametrize("name", list(ADAPTERS))
def test_dropout_acts_in_training_only(name):
    model, adapter = attach(name, tiny_tensors(), dropout=0.5)
    shake(adapter)
    adapter.train(True)
    assert not torch.equal(output(model), output(model))
    adapter.train(False)
    assert torch.equal(output(model), output(model))


def gradients(model, adapter):
    cond = model.text(input_ids=torch.full((2, 77), 49407)).last_hidden_state
    model.unet(INPUT[0], INPUT[1], cond).sample.square().mean().backward()
    return {key: weight.grad for part in ("unet", "text") for key, weight in adapter.parameters(part).items()}


def test_branches_that_are_computed_together_equal_pefts_own_forward(monkeypatch):
    model, adapter = attach("lora", tiny_tensors())
    shake(adapter)
    monkeypatch.setattr("lib_finetune.training.adapters.lora._put_together", lambda *_: [])
    peft, theirs = attach("lora", tiny_tensors())
    shake(theirs)
    for module in [*peft.unet.modules(), *peft.text.modules()]:
        if hasattr(module, "lora_A"):
            del module.forward
    assert torch.allclose(output(model), output(peft), atol=1e-5)
    own, others = gradients(model, adapter), gradients(peft, theirs)
    assert own.keys() == others.keys()
    for key, gradient in own.items():
        assert (gradient - others[key]).norm() <= 1e-5 * others[key].norm() + 1e-9, key


def test_no_branch_goes_through_a_forward_that_was_put_into_torchs_class(monkeypatch):
    model, adapter = attach("lora", tiny_tensors())
    shake(adapter)
    before = output(model)

    def patched(self, *_):
        raise AssertionError(f"the patched forward of {type(self)} was asked")

    for kind in (torch.nn.Linear, torch.nn.Conv2d):
        monkeypatch.setattr(kind, "forward", patched)
    assert torch.equal(output(model), before)
    with adapter.off():
        assert not torch.equal(output(model), before)


@pytest.mark.parametrize("name", list(ADAPTERS))
def test_lycoris_reads_the_file_to_the_same_change(name):
    from lycoris.functional import loha, lokr

    tensors = tiny_tensors()
    _, adapter = attach(name, tensors, conv_rank=0)
    shake(adapter)
    module, parts = next((module, parts) for module, parts in by_module(adapter.state()).items() if module.endswith("attn2_to_k"))
    shape = torch.Size((parts["lora_up.weight"].shape[0], parts["lora_down.weight"].shape[1])) if name == "lora" else None
    if name == "lora":
        reference = parts["lora_up.weight"] @ parts["lora_down.weight"] * (2 / 4)
    elif name == "loha":
        values = [parts[key] for key in ("hada_w1_b", "hada_w1_a", "hada_w2_b", "hada_w2_a")]
        reference = loha.diff_weight(*values, None, None, gamma=torch.tensor(2 / 4))
    else:
        keys = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b")
        whole = "lokr_w2" in parts
        reference = lokr.diff_weight(*[parts.get(key) for key in keys], None, gamma=1.0 if whole else 2 / 4)
    assert torch.allclose(delta(parts, shape or reference.shape, torch.device("cpu")), reference, atol=1e-6), module


def test_a_file_for_another_model_is_refused():
    model = BorrowedModel(small_layout())
    with pytest.raises(InputError, match="lora_unet_nowhere"):
        merged(tiny_tensors(), model, {"lora_unet_nowhere.lora_up.weight": torch.zeros(1)}, 1.0)


def test_parts_of_an_unknown_kind_are_named():
    with pytest.raises(InputError, match="oft_blocks"):
        delta({"oft_blocks": torch.zeros(1)}, torch.Size((1,)), torch.device("cpu"))
