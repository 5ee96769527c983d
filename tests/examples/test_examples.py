"""Each settings file in examples/ is read, is valid, and trains through the command line."""

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from lib_finetune import cli
from lib_finetune.__main__ import open_host
from lib_finetune.config import codec
from lib_finetune.config.fields import value_at
from lib_finetune.config.settings import METHODS
from lib_finetune.config.validation import validate
from tests.fakes.host import tiny_tensors
from tests.fakes.pictures import draw

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NAMES = [path.stem for path in sorted(EXAMPLES.glob("*.toml"))]
#: What makes a run small; all else is as the file says.
SMALL = {"training.steps": "2", "data.resolution": "64", "preview.enabled": "false", "saving.every_steps": "0", "network.rank": "2"}
#: Method → where its file goes below the output root.
FOLDERS = {
    "lora": "models/Lora",
    "pivotal_tuning": "models/Lora",
    "dreambooth": "models/Stable-diffusion",
    "textual_inversion": "embeddings",
}


def test_there_is_one_file_for_each_method():
    assert sorted(NAMES) == sorted(METHODS)


@pytest.mark.parametrize("name", NAMES)
def test_the_file_is_valid_and_trains_its_method(name):
    settings = codec.load(EXAMPLES / f"{name}.toml")
    assert settings.method == name
    validate(settings)


@pytest.mark.parametrize("name", NAMES)
def test_the_file_says_something_that_the_defaults_do_not(name):
    settings = codec.load(EXAMPLES / f"{name}.toml")
    changed = [path for path, leaf in codec.all_leaves().items() if value_at(settings, path) != leaf.default]
    assert {"name", "data.images", "data.kind", "data.class_word"} <= set(changed)


@pytest.mark.parametrize("name", NAMES)
def test_the_file_trains_through_the_command_line(name, tmp_path, capsys):
    checkpoint = tmp_path / "tiny.safetensors"
    save_file(tiny_tensors(), checkpoint, metadata={"text_encoder_heads": "2"})
    draw(tmp_path / "images", count=6)
    settings = codec.load(EXAMPLES / f"{name}.toml")
    changes = SMALL | ({"data.crop": "centre"} if settings.data.crop == "face" else {})  # the face finder is the WebUI's
    command = ["train", name.replace("_", "-"), "--checkpoint", checkpoint, "--config", EXAMPLES / f"{name}.toml"]
    command += ["--images", tmp_path / "images", "--output-root", tmp_path]
    command += [part for pair in changes.items() for part in ("--set", "=".join(pair))]
    assert cli.main([str(part) for part in command], open_host) == 0, capsys.readouterr()
    file = tmp_path / FOLDERS[name] / f"{settings.name}.safetensors"
    assert load_file(str(file))
    assert "done" in capsys.readouterr().out
