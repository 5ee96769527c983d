"""The command line: exit codes and messages."""

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from lib_finetune import cli
from lib_finetune.__main__ import main, open_host
from lib_finetune.errors import InputError, Problem, SaveError
from tests.fakes.host import tiny_tensors
from tests.fakes.pictures import draw


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_file(tiny_tensors(), path, metadata={"text_encoder_heads": "2"})
    return path


def call(*arguments):
    return cli.main([str(argument) for argument in arguments], open_host)


def train(checkpoint, images, *more):
    small = ["--set", "network.rank=2", "--set", "network.targets=attention", "--set", "preview.enabled=false"]
    return call("train", "lora", "--checkpoint", checkpoint, "--images", images, "--name", "cat", "--trigger", "zxq", "--steps", 1, "--resolution", 64,
                "--output-root", checkpoint.parent, *small, *more)  # fmt: skip


def test_train_then_generate(checkpoint, tmp_path, capsys):
    draw(tmp_path / "pictures")
    assert train(checkpoint, tmp_path / "pictures") == 0
    lora = tmp_path / "models" / "Lora" / "cat.safetensors"
    common = ["generate", "--checkpoint", checkpoint, "--prompt", "a cat", "--size", "64x64", "--steps", 1]
    assert call(*common, "--lora", f"{lora}:1.0", "--out", tmp_path / "a.png") == 0
    assert Image.open(tmp_path / "a.png").size == (64, 64)
    assert "done" in capsys.readouterr().out


def test_wrong_input_is_exit_code_2_with_all_problems(checkpoint, tmp_path, capsys):
    assert train(tmp_path / "gone.safetensors", tmp_path / "nowhere", "--set", "training.batch=0") == 2
    said = capsys.readouterr().err
    assert all(word in said for word in ("nowhere", "training.batch", "gone.safetensors")) and "Traceback" not in said


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 1, "interrupted."),
        (SaveError("the disk is full"), 1, "failed: the disk is full"),
        (InputError([Problem("name", "is empty.")]), 2, "error: name: is empty."),
    ],
)
def test_what_ends_a_command_is_its_exit_code_and_one_line(capsys, error, code, said):
    def ends(options):
        raise error

    assert cli.main(["describe"], open_host, {"describe": ends}) == code
    assert capsys.readouterr().err.strip() == said


def test_an_unknown_setting_names_the_nearest(checkpoint, tmp_path, capsys):
    assert train(checkpoint, tmp_path, "--set", "network.ranc=3") == 2
    assert "network.rank" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"no checkpoint", b""])
def test_a_missing_or_broken_checkpoint_is_exit_code_2(tmp_path, capsys, content):
    draw(tmp_path / "pictures")
    path = tmp_path / "broken.safetensors"
    if content is not None:
        path.write_bytes(content)
    assert train(path, tmp_path / "pictures") == 2
    assert "broken.safetensors" in capsys.readouterr().err


def test_a_foreign_checkpoint_is_named(tmp_path, capsys):
    draw(tmp_path / "pictures")
    save_file({"conditioner.embedders.0.x": torch.zeros(1)}, tmp_path / "xl.safetensors")
    assert train(tmp_path / "xl.safetensors", tmp_path / "pictures") == 2
    assert "SDXL" in capsys.readouterr().err


def test_a_ckpt_without_weights_is_refused(tmp_path, capsys):
    draw(tmp_path / "pictures")
    torch.save({"state_dict": {}, "more": cli.Console()}, tmp_path / "empty.ckpt")
    assert train(tmp_path / "empty.ckpt", tmp_path / "pictures") == 2
    said = capsys.readouterr().err
    assert "empty.ckpt" in said or "Stable Diffusion" in said, said


@pytest.mark.parametrize("more", [{}, {"callbacks": {cli.Console: cli.Console()}}])
def test_a_ckpt_trains_as_a_safetensors_does(tmp_path, more):
    """Whatever else the program that trained it has put into the file."""
    draw(tmp_path / "pictures")
    torch.save({"state_dict": tiny_tensors(), **more}, tmp_path / "tiny.ckpt")
    from lib_finetune.model import checkpoint_reader

    read = checkpoint_reader.read(tmp_path / "tiny.ckpt", torch.float32, torch.device("cpu"))
    assert all(torch.equal(value, read[name]) for name, value in tiny_tensors().items())


@pytest.mark.parametrize(
    "wrong", [["--size", "60x64"], ["--size", "big"], ["--steps", "0"], ["--out", "a.txt"], ["--lora", "nowhere.safetensors:1"]]
)
def test_generate_refuses_what_cannot_be(checkpoint, tmp_path, capsys, wrong):
    arguments = ["generate", "--checkpoint", checkpoint, "--prompt", "a", "--out", tmp_path / "a.png", "--size", "64x64", *wrong]
    assert call(*arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_continue_without_a_state_says_so(checkpoint, tmp_path, capsys):
    draw(tmp_path / "pictures")
    assert train(checkpoint, tmp_path / "pictures", "--continue") == 2
    assert "no saved state" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"), [([], "quickstart.py ui"), (["--checkpoint", "nowhere.ckpt"], "nowhere.ckpt does not exist")]
)
def test_the_page_asks_for_a_checkpoint(capsys, arguments, message):
    assert main(["ui", *arguments]) == 2
    error = capsys.readouterr().err
    assert "--checkpoint" in error and message in error


def test_describe_lists_the_settings(capsys):
    assert call("describe") == 0
    assert "network.rank" in capsys.readouterr().out


def run_of(root):
    return next((root / ".finetune" / "runs").iterdir())


@pytest.mark.parametrize(("config", "flags"), [("model: {params: {parameterization: v}}", []), (None, ["--prediction", "v_prediction"])])
def test_a_v_prediction_checkpoint_trains_and_paints_as_one(checkpoint, tmp_path, config, flags):
    def outcome(name):
        draw(tmp_path / "pictures")
        assert train(checkpoint, tmp_path / "pictures", "--name", name, "--set", "training.seed=1", *use) == 0
        picture = tmp_path / f"{name}.png"
        common = ["--prompt", "a cat", "--size", "64x64", "--steps", 2, "--out", picture, *use]
        assert call("generate", "--checkpoint", checkpoint, *common) == 0
        folder = next(path for path in (tmp_path / ".finetune" / "runs").iterdir() if path.name.endswith(name))
        return (
            (folder / "checkpoint.json").read_text(),
            load_file(tmp_path / "models" / "Lora" / f"{name}.safetensors"),
            picture.read_bytes(),
        )

    use = []
    told, plain, painted = outcome("plain")
    assert '"prediction": "epsilon"' in told
    if config:
        checkpoint.with_suffix(".yaml").write_text(config)
    use = flags
    told, changed, repainted = outcome("velocity")
    assert '"prediction": "v_prediction"' in told and painted != repainted
    assert any(not torch.equal(plain[name], changed[name]) for name in plain if name.endswith("lora_up.weight"))
