"""The nano checkpoint against the list of SD1.5's weights, and its way into a file and into a WebUI."""

import json
import re
from pathlib import Path

import pytest

from bench.nano import checkpoint, install, layout
from lib_finetune.errors import CheckpointError, InputError

KEYS = Path(__file__).parents[2] / "golden" / "sd15_checkpoint_keys.json"

# CLIP's depth is 12 layers and nano's 3; the autoencoder has one block a level where SD1.5 has two, and no widths change
# in it, so no shortcuts; the UNet doubles its width at its third level only.
ABSENT = re.compile(
    r"cond_stage_model\.transformer\.text_model\.encoder\.layers\.([3-9]|1[01])\."
    r"|first_stage_model\.encoder\.down\.\d\.block\.1\."
    r"|first_stage_model\.decoder\.up\.\d\.block\.2\."
    r"|first_stage_model\..*\.nin_shortcut\."
    r"|model\.diffusion_model\.input_blocks\.4\.0\.skip_connection\."
)


@pytest.fixture(scope="module")
def weights():
    return checkpoint.ldm_weights(layout.new_unet(), layout.new_autoencoder(), layout.new_text_model())


@pytest.fixture(scope="module")
def sd15():
    return json.loads(KEYS.read_text(encoding="utf-8"))


def test_every_name_is_one_of_sd15(weights, sd15):
    assert set(weights) - set(sd15) == set()


def test_only_the_named_weights_are_absent(weights, sd15):
    absent = set(sd15) - set(weights)
    assert [name for name in absent if not ABSENT.match(name)] == []


def test_shapes_have_the_same_rank_and_kernel(weights, sd15):
    for name, value in weights.items():
        assert value.ndim == len(sd15[name]), name
        if value.ndim == 4:
            assert list(value.shape[2:]) == sd15[name][2:], name


def test_a_file_gives_back_the_models(tmp_path, weights):
    path = tmp_path / "nano-sd15.safetensors"
    checkpoint.write(path, weights, {})
    assert path.stat().st_size <= 40e6
    again = checkpoint.ldm_weights(*checkpoint.load(path))
    assert all((again[name] - value).abs().max() <= value.abs().max() * 1e-3 for name, value in weights.items())


def test_diffusers_converter_finds_the_same_unet(tmp_path, weights):
    import torch
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    unet = layout.new_unet()
    config = dict(unet.config)
    ours = {name: value.clone() for name, value in checkpoint.ldm_weights(unet, layout.new_autoencoder(), layout.new_text_model()).items()}
    converted = convert_ldm_unet_checkpoint(ours, config)
    assert set(converted) == set(unet.state_dict())
    assert all(torch.equal(converted[name], value) for name, value in unet.state_dict().items())


def test_diffusers_loads_the_file_without_a_hub(tmp_path, weights):
    import torch
    from diffusers import StableDiffusionPipeline

    path = tmp_path / "nano-sd15.safetensors"
    checkpoint.write(path, weights, {})
    checkpoint.write_diffusers_folder(tmp_path / "config")
    loaded = StableDiffusionPipeline.from_single_file(path, config=str(tmp_path / "config"), local_files_only=True)
    unet, vae, text = checkpoint.load(path)
    for ours, theirs in ((unet, loaded.unet), (vae, loaded.vae), (text, loaded.text_encoder)):
        read = theirs.state_dict()
        assert all(torch.equal(value, read[name]) for name, value in ours.state_dict().items() if not name.endswith("position_ids"))


def test_our_own_reader_infers_nanos_layout(weights):
    from lib_finetune.model.layout import infer

    found = infer(weights)
    assert found.unet["block_out_channels"] == tuple(layout.new_unet().config.block_out_channels)
    assert found.vae["block_out_channels"] == tuple(layout.new_autoencoder().config.block_out_channels)
    assert found.text["num_hidden_layers"] == layout.TEXT_LAYERS
    assert found.text["num_attention_heads"] == layout.TEXT_HEADS


def test_a_missing_or_foreign_file_is_one_clear_message(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(CheckpointError, match="missing"):
        checkpoint.load(tmp_path / "none.safetensors")
    import torch

    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match="no nano checkpoint"):
        checkpoint.load(tmp_path / "foreign.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="no safetensors"):
        checkpoint.load(tmp_path / "broken.safetensors")


def test_install_writes_file_configuration_and_text_folder(tmp_path):
    import yaml
    from transformers import CLIPTextConfig

    source = tmp_path / "nano-sd15.safetensors"
    source.write_bytes(b"weights")
    (tmp_path / "webui" / "models").mkdir(parents=True)
    target = install.install(tmp_path / "webui", source)
    assert target.read_bytes() == b"weights"
    config = yaml.safe_load(target.with_suffix(".yaml").read_text())["model"]["params"]
    folder = Path(config["cond_stage_config"]["params"]["version"])
    assert CLIPTextConfig.from_pretrained(folder).hidden_size == config["unet_config"]["params"]["context_dim"] == layout.TEXT_WIDTH
    assert (folder / "vocab.json").is_file()


def test_install_refuses_what_is_no_webui(tmp_path):
    source = tmp_path / "nano-sd15.safetensors"
    source.write_bytes(b"weights")
    with pytest.raises(InputError, match="no WebUI"):
        install.install(tmp_path, source)
