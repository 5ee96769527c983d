"""Embeddings of other people are read by our own reader."""

import base64
import json
import os
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save_file

from bench.nano import trained
from lib_finetune.errors import CheckpointError, InputError
from lib_finetune.export import embedding_file


class Trap:
    """Runs a command when a careless reader unpickles it."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def saved(path, content, zipped):
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("ending", [".pt", ".bin"])
@pytest.mark.parametrize("stored", ["webui", "diffusers", "paper"])
def test_every_form_of_an_embedding_is_read(tmp_path, zipped, ending, stored):
    vectors = torch.randn(2, 4).half()
    content = {
        "webui": {"string_to_token": {"*": 265}, "string_to_param": {"*": torch.nn.Parameter(vectors)}, "name": "x", "step": 3},
        "diffusers": {"<x>": vectors},
        "paper": {
            "string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(vectors)}),
            "string_to_token": {"*": torch.tensor(265)},
        },
    }[stored]
    path = saved(tmp_path / f"x{ending}", content, zipped)
    assert torch.equal(embedding_file.read(path), vectors.float())
    kind, tensors = trained.read(path)
    assert kind == trained.EMBEDDING and torch.equal(next(iter(tensors.values())), vectors)


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_beside_an_embeddings_vectors_runs_or_hinders(tmp_path, zipped):
    path = saved(tmp_path / "x.pt", {"string_to_param": {"*": torch.ones(1, 4)}, "more": Trap(tmp_path / "mark")}, zipped)
    assert embedding_file.read(path).shape == (1, 4) and trained.read(path)[0] == trained.EMBEDDING
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "content", [{"string_to_param": Trap("x")}, {"string_to_param": {"*": 5}}, [1], Trap("x"), {"a": torch.ones(0, 4)}, {}]
)
def test_what_is_no_embedding_is_told(tmp_path, content):
    path = saved(tmp_path / "x.pt", content, True)
    with pytest.raises(CheckpointError, match="no embedding"):
        embedding_file.read(path, "embedding.init")


def test_a_script_is_no_embedding(tmp_path, monkeypatch):
    class Runs(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    torch.jit.save(torch.jit.script(Runs()), str(tmp_path / "x.pt"))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load was asked"))
    for read in (embedding_file.read, trained.read):
        with pytest.raises(InputError, match=r"x\.pt is a TorchScript archive"):
            read(tmp_path / "x.pt")


def test_the_file_can_be_replaced_while_its_vectors_are_held(tmp_path):
    path = saved(tmp_path / "x.pt", {"a": torch.ones(1, 4)}, True)
    vectors = embedding_file.read(path)
    path.write_bytes(bytes(path.stat().st_size))
    assert vectors.tolist() == [[1, 1, 1, 1]]


# -- as the first trainer and the WebUI save them ----------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("around", ["numbers", "arrays", "columns", "long", "moved"])
def test_an_embedding_with_numpy_around_or_inside_is_read(tmp_path, zipped, around):
    vectors = torch.randn(2, 4)
    parameters = torch.nn.ParameterDict({"*": torch.nn.Parameter(vectors)})
    content = {
        "numbers": {"string_to_param": parameters, "string_to_token": {"*": np.int64(265)}, "step": np.int64(3), "loss": np.float32(0.5)},
        "arrays": {"string_to_param": {"*": vectors.numpy()}, "string_to_token": {"*": torch.tensor(265)}},
        "columns": {"string_to_param": {"*": np.asfortranarray(vectors.numpy())}},
        "long": {"<cat>": vectors.double().numpy()},
        "moved": {"string_to_param": {"*": vectors}, "seen": [np.zeros((3, 2)), np.array(["a", None], dtype=object)]},
    }[around]
    path = saved(tmp_path / "x.pt", content, zipped)
    assert torch.equal(embedding_file.read(path), vectors)


@pytest.mark.parametrize("ending", ["safetensors", "SAFETENSORS", "bin", "PT"])
def test_a_concept_of_diffusers_is_read_by_its_content(tmp_path, ending):
    for name in ("<concept>", "plain-word"):
        save_file({name: torch.ones(4)}, tmp_path / f"learned_embeds.{ending}")
        assert embedding_file.read(tmp_path / f"learned_embeds.{ending}").shape == (1, 4)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"<a>": torch.ones(4), "<b>": torch.ones(4)}, r"does not hold exactly one tensor but 2 \(<a>, <b>\)"),
        ({"string_to_param": {"a": torch.ones(1, 4), "b": torch.ones(1, 4)}}, "does not hold exactly one tensor but 2"),
        ({"clip_g": torch.ones(2, 1280), "clip_l": torch.ones(2, 768)}, "an embedding of SDXL"),
        ({"emb_params": torch.ones(2, 3, 4)}, r"its tensor has the sides \[2, 3, 4\]"),
        ({"emb_params": torch.full((1, 4), float("nan"))}, "NaN or infinity"),
        ({"lora_unet_a.lora_up.weight": torch.ones(2, 2), "lora_unet_a.lora_down.weight": torch.ones(2, 2)}, "it is a LoRA"),
        (
            {"model.diffusion_model.a": torch.ones(1), "first_stage_model.a": torch.ones(1), "cond_stage_model.a": torch.ones(1)},
            "it is a checkpoint",
        ),
        (torch.ones(1, 768), "without tensors that have names"),
    ],
)
def test_what_is_no_embedding_of_one_word_is_told_with_what_it_is(tmp_path, content, said):
    with pytest.raises(CheckpointError, match=rf"^embedding\.init: x\.pt .*{said}"):
        embedding_file.read(saved(tmp_path / "x.pt", content, True), "embedding.init")


def as_json(vectors):
    return json.dumps({"string_to_token": {"*": 265}, "string_to_param": {"*": {"TORCHTENSOR": vectors.tolist()}}, "name": "x", "step": 3})


def in_pixels(image, content):
    """What the WebUI draws: the lower halves of the bytes left of the image, the upper ones right of it."""
    data, height = np.frombuffer(zlib.compress(content.encode()), np.uint8), image.height
    columns = -(-len(data) // (height * 3)) + 1
    blocks = [np.resize(half, (height, columns, 3)) for half in (data & 15, data >> 4)]
    noise, state = [], 0
    for _ in range(blocks[0].size):
        state = (1664525 * state + 1013904223) % 2**32
        noise.append(state % 255)
    assert noise[:5] == [253, 242, 127, 44, 157]  # as the WebUI's own check has it
    low, high = (block ^ (np.array(noise, np.uint8).reshape(block.shape) & 15) | 0x40 for block in blocks)
    black = np.zeros((height, 1, 3), np.uint8)
    return Image.fromarray(np.concatenate([low, black, np.asarray(image), black, high], axis=1).astype(np.uint8))


@pytest.mark.parametrize("ending", [".png", ".webp", ".PNG", ".pt"])
@pytest.mark.parametrize("place", ["text", "pixels"])
def test_the_webuis_pictures_of_embeddings_are_read(tmp_path, ending, place):
    vectors, path = torch.randn(2, 8), tmp_path / f"x{ending}"
    image = Image.new("RGB", (64, 48), (200, 90, 61))
    if place == "pixels":
        in_pixels(image, as_json(vectors)).save(path, "WEBP" if ending == ".webp" else "PNG", lossless=True)
    elif ending == ".webp":
        pytest.skip("such text is in PNG only")
    else:
        text = PngInfo()
        text.add_text("sd-ti-embedding", base64.b64encode(as_json(vectors).encode()).decode())
        image.save(path, "PNG", pnginfo=text)
    assert torch.allclose(embedding_file.read(path), vectors)


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "no JSON",
        '{"string_to_param": 3}',
        '{"string_to_param": {"*": {"TORCHTENSOR": "x"}}}',
        '{"string_to_param": {"*": 3}}',
        "[" * 100_000,
        None,
        "%",
    ],
)
def test_a_picture_without_an_embedding_is_told_as_one(tmp_path, content):
    text = PngInfo()
    if content is not None:
        text.add_text("sd-ti-embedding", "%%%" if content == "%" else base64.b64encode(content.encode()).decode())
    Image.effect_noise((40, 40), 50).convert("RGB").save(tmp_path / "x.png", pnginfo=text)
    with pytest.raises(CheckpointError, match=r"^embedding\.init: x\.png is "):
        embedding_file.read(tmp_path / "x.png", "embedding.init")


def test_what_is_no_picture_but_is_called_one_is_read_by_its_content(tmp_path):
    save_file({"emb_params": torch.ones(2, 4)}, tmp_path / "x.png")
    assert embedding_file.read(tmp_path / "x.png").shape == (2, 4)
    (tmp_path / "x.webp").write_bytes(b"<html>Log in</html>")
    with pytest.raises(CheckpointError, match=r"x\.webp cannot be read: it is a web page"):
        embedding_file.read(tmp_path / "x.webp")


def test_a_broken_picture_is_told(tmp_path):
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    with pytest.raises(CheckpointError, match=r"x\.png is an image that cannot be read.* Get the original file\."):
        embedding_file.read(tmp_path / "x.png")


# -- words or a file ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "is_file"),
    [
        ("woman", False), ("a photo of a cat", False), ("", False), ("v1.5", False), ("cat, dog.", False), ("x" * 5000, False), ("a\0b", False),
        ("old.pt", True), ("old.PT", True), ("old.Bin", True), ("a b.SafeTensors", True), ("x.png", True), ("x.webp", True), (" old.pt ", True),
        ("folder/old", True), ("folder\\old", True), ("C:\\x\\old", True), ("~", True), ("./old", True), ("there", True), ("a.ckpt", True),
    ],
)  # fmt: skip
def test_what_names_a_file_is_no_words(tmp_path, monkeypatch, text, is_file):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").write_bytes(b"x")
    assert embedding_file.names_file(text) == is_file
