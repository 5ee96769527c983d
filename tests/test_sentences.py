"""Where a traceback was, a sentence stands: what is wrong, which file or value, what to do."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lib_finetune.__main__ import main
from lib_finetune.errors import CheckpointError, InputError, denied_in_words
from lib_finetune.export import embedding_file, lora_file
from lib_finetune.model import checkpoint_reader
from lib_finetune.text.prompts import TextEncoder
from tests.fakes.host import tiny_tensors
from tests.fakes.pictures import draw
from tests.fakes.runs import Bench


@pytest.mark.parametrize("heads", ["x", "7", "0", "-2", "2.0", "٢", "9" * 400])
def test_heads_that_cannot_be_are_named(tmp_path, capsys, heads):
    draw(tmp_path / "pictures")
    save_file(tiny_tensors(), tmp_path / "tiny.safetensors", metadata={"text_encoder_heads": heads})
    arguments = [
        "train",
        "lora",
        "--checkpoint",
        tmp_path / "tiny.safetensors",
        "--images",
        tmp_path / "pictures",
        "--name",
        "cat",
        "--trigger",
        "zxq",
        "--output-root",
        tmp_path,
    ]
    assert main([str(part) for part in arguments]) == 2
    assert "text_encoder_heads" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["lora", "textual_inversion"])
def test_more_layers_skipped_than_there_are(tmp_path, method):
    with pytest.raises(InputError, match=r"training\.clip_skip: is 12, but the text encoder has \d+ layers"):
        Bench(tmp_path).run({"training.clip_skip": "12", "method": method, "name": "zxqcat"})
    assert TextEncoder  # the check stands there, for training and images alike


def test_a_checkpoint_that_may_not_be_read_is_not_said_to_be_missing(tmp_path, monkeypatch):
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(b"x")
    real = Path.open

    def refuse(self, *args, **named):
        if self == path:
            raise PermissionError(13, "Permission denied")
        return real(self, *args, **named)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CheckpointError, match=r"cannot be read \(Permission denied\)"):
        checkpoint_reader.read(path, torch.float32, torch.device("cpu"))


def test_a_reader_that_has_enough_is_no_error():
    process = subprocess.Popen(
        [sys.executable, "-m", "lib_finetune", "describe"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait(60) == 0


NOTHING, NAN = torch.empty(0), float("nan")
MODULE = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


@pytest.mark.parametrize(
    "keys", [{1: "a"}, {None: "a"}, {("a", "b"): "c"}, {b"a": "b"}, {1.5: "a"}, {True: "a"}, {1: "a", "b": "c"}], ids=str
)
@pytest.mark.parametrize("wrap", [lambda held: held, lambda held: {"state_dict": held}], ids=["plain", "state_dict"])
def test_keys_that_are_no_names(tmp_path, keys, wrap):
    path = tmp_path / "x.ckpt"
    torch.save(wrap(dict.fromkeys(keys, torch.ones(2))), path)
    for read in (lambda: checkpoint_reader.read(path, torch.float32, torch.device("cpu")), lambda: lora_file.read(path, "network.start")):
        with pytest.raises(InputError, match=r"x\.ckpt is no (checkpoint|LoRA) of Stable Diffusion 1\.x"):
            read()


@pytest.mark.parametrize("form", ["safetensors", "pt", "bin"])
@pytest.mark.parametrize(
    ("vectors", "reason"),
    [
        (NOTHING, r"has the sides \[0\]"), (torch.empty(0, 8), r"\[0, 8\]"), (torch.empty(2, 0), r"\[2, 0\]"), (torch.tensor(1.0), r"\[\]"),
        (torch.ones(1, 2, 8), r"\[1, 2, 8\]"), (torch.full((1, 8), NAN), "holds NaN"), (torch.full((1, 8), float("inf")), "holds NaN or infinity"),
    ],
    ids=lambda value: str(list(value.shape)) if isinstance(value, torch.Tensor) else "",
)  # fmt: skip
def test_an_embedding_that_is_empty_a_number_or_none(tmp_path, form, vectors, reason):
    path = tmp_path / f"e.{form}"
    if form == "safetensors":
        save_file({"emb_params": vectors}, path)
    else:
        torch.save({"string_to_param": {"*": vectors}, "name": "e"} if form == "pt" else {"<e>": vectors}, path)
    with pytest.raises(InputError, match=rf"embedding\.init: e\.{form} is .*{reason}"):
        embedding_file.read(path, "embedding.init")


@pytest.mark.parametrize(
    ("down", "up", "alpha", "reason"),
    [
        (NOTHING, NOTHING, torch.tensor(2.0), "lora_down.weight has the sides [0]"),
        (torch.empty(0, 32), torch.empty(32, 0), torch.tensor(2.0), "lora_down.weight has the sides [0, 32]"),
        (torch.ones(2, 32), torch.empty(32, 0), torch.tensor(2.0), "lora_up.weight has the sides [32, 0]"),
        (torch.tensor(1.0), torch.tensor(1.0), torch.tensor(2.0), "lora_down.weight has the sides []"),
        (torch.ones(2, 32), torch.ones(32, 2), NOTHING, "alpha has the sides [0]"),
        (torch.ones(2, 32), torch.ones(32, 2), torch.ones(3), "alpha has the sides [3]"),
        (torch.full((2, 32), NAN), torch.ones(32, 2), torch.tensor(2.0), "lora_down.weight holds NaN or infinity"),
        (torch.ones(2, 32), torch.ones(32, 2), torch.tensor(NAN), "alpha holds NaN or infinity"),
        (torch.ones(2, 32).half() * 65504 * 2, torch.ones(32, 2), torch.tensor(2.0), "lora_down.weight holds NaN or infinity"),
    ],
)
def test_a_lora_that_is_empty_a_number_or_none(tmp_path, capsys, down, up, alpha, reason):
    path = tmp_path / "l.safetensors"
    save_file({f"{MODULE}.lora_down.weight": down, f"{MODULE}.lora_up.weight": up, f"{MODULE}.alpha": alpha}, path)
    with pytest.raises(InputError) as raised:
        lora_file.read(path, "network.start")
    assert f"network.start: l.safetensors is {'damaged' if 'NaN' in reason else 'broken'}: {MODULE}.{reason}" in str(raised.value)
    save_file(tiny_tensors(), tmp_path / "tiny.safetensors")
    arguments = ["generate", "--checkpoint", str(tmp_path / "tiny.safetensors"), "--prompt", "a", "--steps", "1", "--size", "64x64"]
    assert main([*arguments, "--lora", f"{path}:1", "--out", str(tmp_path / "g.png")]) == 2
    assert reason in capsys.readouterr().err and not (tmp_path / "g.png").exists()


PARTS = (
    "model.diffusion_model.out.2.weight",
    "first_stage_model.decoder.conv_in.weight",
    "cond_stage_model.transformer.text_model.final_layer_norm.weight",
)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_a_checkpoint_with_nan_is_called_damaged_and_no_flag_is_blamed(tmp_path, part, value):
    tensors = tiny_tensors()
    tensors[part] = tensors[part].clone()
    tensors[part].view(-1)[-1] = value
    save_file(tensors, tmp_path / "n.safetensors")
    with pytest.raises(CheckpointError, match=f"n.safetensors is damaged: {part} holds NaN or infinity") as raised:
        checkpoint_reader.read(tmp_path / "n.safetensors", torch.float32, torch.device("cpu"))
    assert "no-half" not in str(raised.value)


@pytest.mark.parametrize(
    "shape", [torch.tensor(1.0), NOTHING, torch.ones(3), torch.ones(1, 1, 1, 1, 1)], ids=lambda value: str(list(value.shape))
)
def test_a_checkpoint_whose_weight_has_a_shape_that_cannot_be(tmp_path, capsys, shape):
    draw(tmp_path / "pictures")
    save_file({**tiny_tensors(), PARTS[0]: shape}, tmp_path / "n.safetensors", metadata={"text_encoder_heads": "2"})
    named = {
        "--checkpoint": tmp_path / "n.safetensors",
        "--images": tmp_path / "pictures",
        "--name": "cat",
        "--trigger": "zxq",
        "--output-root": tmp_path,
    }
    arguments = [str(part) for pair in named.items() for part in pair]
    assert main(["train", "lora", *arguments, "--steps", "1"]) == 2
    printed = capsys.readouterr().err
    assert "error: checkpoint: " in printed and "index out of range" not in printed and "size mismatch" not in printed, printed


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(13, "Permission denied", "/a/b"), "/a/b may not be used: Permission denied. Change its permissions"),
        (PermissionError(1, "Operation not permitted", b"/a"), "/a may not be used"),
        (OSError(30, "Read-only file system", "/a"), "/a may not be used: Read-only file system"),
        (PermissionError(13, "Permission denied"), "A file or a folder may not be used"),
        (FileNotFoundError(2, "No such file", "/a"), None),
        (OSError(28, "No space left on device", "/a"), None),
        (ValueError("x"), None),
    ],
)
def test_what_the_system_refuses_is_called_so(error, words):
    said = denied_in_words(error)
    assert (said is None) if words is None else words in said
