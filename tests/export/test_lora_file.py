"""The LoRA file, read by readers that are not ours."""

import importlib.metadata
import json

import pytest
import torch
from safetensors.torch import load_file

from lib_finetune.export import lora_file
from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.random_weights import small_layout
from tests.fakes.host import tiny_tensors
from tests.fakes.runs import Bench, metadata

NEWEST = int(importlib.metadata.version("transformers").split(".")[0]) >= 5


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("file"))
    changes = {"network.targets": "all", "training.steps": "3", "optimizer.unet_rate": "0.01", "optimizer.text_encoder_rate": "0.01"}
    return bench.run({**changes, "saving.precision": "fp32"})[0].file


def test_names_and_parts_are_kohyas(made):
    tensors = load_file(str(made))
    down = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight"
    assert tensors[down].shape == (2, 32) and tensors[down.replace("lora_down.weight", "alpha")].item() == 8.0
    assert tensors["lora_unet_mid_block_attentions_0_proj_in.lora_up.weight"].shape == (64, 2, 1, 1)
    assert "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight" in tensors


def test_the_metadata_that_the_webui_and_others_read_are_there(made):
    found = metadata(made)
    wanted = {"ss_output_name", "ss_network_module", "ss_network_dim", "ss_network_alpha", "ss_base_model_version", "ss_sd_model_name",
              "ss_tag_frequency", "ss_bucket_info", "ss_dataset_dirs", "ss_training_started_at", "sshs_model_hash", "sshs_legacy_hash",
              "modelspec.architecture", "modelspec.title", "modelspec.hash_sha256"}  # fmt: skip
    assert wanted <= set(found)
    assert found["ss_output_name"] == made.stem and found["ss_base_model_version"] == "sd_v1"
    assert json.loads(found["ss_bucket_info"])["buckets"]["0"]["count"] == 3
    assert all(isinstance(value, str) for value in found.values())


def test_no_private_path_is_in_the_metadata(made):
    assert str(made.parent.parent.parent) not in json.dumps(metadata(made))


def test_the_hash_does_not_depend_on_the_metadata(tmp_path):
    values = {"lora_unet_x.lora_up.weight": torch.ones(2, 2)}
    for name, told in (("a", {}), ("b", {"more": "x" * 1000})):
        lora_file.write(tmp_path / f"{name}.safetensors", values, told, "fp16")
    hashes = {metadata(tmp_path / f"{name}.safetensors")["sshs_model_hash"] for name in "ab"}
    assert len(hashes) == 1


@pytest.mark.skipif(not NEWEST, reason="diffusers loads LoRA files only with transformers 4.34 or later")
def test_diffusers_gives_the_effect_that_we_give(made):
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    from lib_finetune.model.lora_merge import merged
    from tests.fakes.host import FakeHost

    tensors = tiny_tensors()
    plain, ours = BorrowedModel(small_layout()), BorrowedModel(small_layout())
    plain.bind(tensors)
    ours.bind(merged(tensors, ours, load_file(str(made)), 1.0))
    text = CLIPTextModel(CLIPTextConfig(**small_layout().text))
    text.load_state_dict(dict(plain.text.state_dict()), strict=False)
    tokenizer: CLIPTokenizer = FakeHost(made.parent).text_tools().tokenizer
    pipe = StableDiffusionPipeline(
        vae=plain.vae, text_encoder=text, tokenizer=tokenizer, unet=plain.unet, scheduler=DDIMScheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    given = (torch.randn(1, 4, 8, 8), torch.tensor([300]), torch.randn(1, 77, 32))
    with torch.no_grad():
        base = plain.unet(*given).sample
        pipe.load_lora_weights(str(made.parent), weight_name=made.name)
        theirs = pipe.unet(*given).sample
        mine = ours.unet(*given).sample
    assert (mine - base).abs().max() > 1e-4
    assert torch.allclose(theirs, mine, atol=1e-3)


@pytest.mark.parametrize("kind", ["lora", "loha", "lokr"])
def test_lycoris_reads_every_key_and_gives_the_effect_that_we_give(tmp_path, kind):
    from lycoris.modules import get_module, make_module

    from lib_finetune.model.lora_merge import merged

    # Alpha equals rank: lycoris 4.1.3 multiplies LoHa and LoKr by alpha / rank twice when it merges (get_weight and get_diff_weight).
    changes = {"network.adapter": kind, "network.factor": "4", "network.alpha": "2", "training.steps": "2"}
    rates = {"optimizer.unet_rate": "0.05", "optimizer.text_encoder_rate": "0.05", "optimizer.warmup": "0"}
    file = Bench(tmp_path).run({**changes, **rates, "saving.precision": "fp32"})[0].file
    tensors = tiny_tensors()
    plain, ours = BorrowedModel(small_layout()), BorrowedModel(small_layout())
    plain.bind(tensors)
    ours.bind(merged(tensors, ours, load_file(str(file)), 1.0))
    given = (torch.randn(1, 4, 8, 8), torch.tensor([300]), torch.randn(1, 77, 32))
    ids = torch.tensor([[49406, *range(320, 395), 49407]])
    with torch.no_grad():
        base = plain.unet(*given).sample
        stored = load_file(str(file))
        wanted = {name.split(".")[0] for name in stored}
        for prefix, root in (("lora_unet_", plain.unet), ("lora_te_text_model_", plain.text)):
            for name, module in list(root.named_modules()):
                if (found := prefix + name.replace(".", "_")) in wanted:
                    wanted.remove(found)
                    make_module(*get_module(stored, found), found, module).merge_to(1.0)
        assert not wanted
        assert (ours.unet(*given).sample - base).abs().max() > 1e-4
        assert torch.allclose(plain.unet(*given).sample, ours.unet(*given).sample, atol=1e-3)
        assert torch.allclose(plain.text(ids).last_hidden_state, ours.text(ids).last_hidden_state, atol=1e-3)
