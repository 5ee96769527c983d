"""Files of weights as they lie on disks: read by content, named for what they are, half a download told as one, no library's words."""

import json
import re
import struct
import zipfile

import pytest
import torch
from safetensors.torch import save, save_file

from lib_finetune.errors import CheckpointError, InputError, SaveError
from lib_finetune.export import checkpoint_writer, embedding_file, lora_file
from lib_finetune.host.headless.host import HeadlessHost
from lib_finetune.model import checkpoint_reader, tensor_file, weights_file
from lib_finetune.model.random_weights import small_layout
from lib_finetune.ports.pictures import PictureRequest
from tests.fakes.host import tiny_tensors

CPU = torch.device("cpu")
UNET, TEXT = "model.diffusion_model.", "cond_stage_model.transformer."
PATCHES = {
    "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": torch.ones(2, 64, 1, 1),
    "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": torch.ones(64, 2, 1, 1),
}


def checkpoint(path):
    return checkpoint_reader.read(path, torch.float32, CPU)


def base(path):
    with checkpoint_writer.opened(path) as entries:
        return list(entries)


READERS = {
    "checkpoint": checkpoint,
    "base": base,
    "LoRA": lambda path: lora_file.read(path, "network.start"),
    "embedding": lambda path: embedding_file.read(path, "embedding.init"),
}
FOREIGN_WORDS = ("Error", "HeaderTooLarge", "safetensor_", "unpickl", "Traceback", "invalid load key", "magic number", "StopIteration")


def refusal(reader, path):
    with pytest.raises(InputError) as caught:
        READERS[reader](path)
    said = str(caught.value)
    assert path.name in said and said.endswith(".") and not [word for word in FOREIGN_WORDS if word in said], said
    return said


# -- by content ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.safetensors", "x.SAFETENSORS", "x.ckpt", "x.pt", "x.bin", "x.pth", "x"])
@pytest.mark.parametrize("form", ["safetensors", "zip", "older"])
def test_a_checkpoint_is_read_by_its_content(tmp_path, name, form):
    tensors, path = tiny_tensors(), tmp_path / name
    if form == "safetensors":
        save_file(tensors, path)
    else:
        torch.save({"state_dict": tensors}, path, _use_new_zipfile_serialization=form == "zip")
    found = checkpoint(path)
    assert found.keys() == tensors.keys() and all(torch.equal(found[key], tensors[key]) for key in tensors)
    assert set(base(path)) == tensors.keys()


@pytest.mark.parametrize("name", ["x.safetensors", "x.pt"])
@pytest.mark.parametrize("form", ["safetensors", "zip", "older"])
@pytest.mark.parametrize(("reader", "tensors"), [("LoRA", PATCHES), ("embedding", {"emb_params": torch.ones(2, 4)})])
def test_a_lora_and_an_embedding_are_read_by_their_content(tmp_path, name, form, reader, tensors):
    path = tmp_path / name
    if form == "safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=form == "zip")
    found = READERS[reader](path)
    found = found if reader == "LoRA" else {"emb_params": found}
    assert found.keys() == tensors.keys() and all(torch.equal(found[key], value) for key, value in tensors.items())


def wrapped(around):
    tensors = tiny_tensors()
    return {
        "state_dict": {"state_dict": tensors, "global_step": 3, "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}}]},
        "model": {"model": tensors, "epoch": 1},
        "module": {"module": tensors},
        "twice": {"model": {"state_dict": tensors}},
        "average beside": {"model": tensors, "model_ema": {name: value + 1 for name, value in tensors.items()}},
        "parallel": {"state_dict": {f"module.{name}": value for name, value in tensors.items()}},
        "compiled": {"module": {f"_forward_module._orig_mod.{name}": value for name, value in tensors.items()}},
    }[around]


@pytest.mark.parametrize("around", ["state_dict", "model", "module", "twice", "average beside", "parallel", "compiled"])
def test_what_programs_put_around_weights_is_taken_off(tmp_path, around):
    torch.save(wrapped(around), tmp_path / "x.ckpt")
    found, tensors = checkpoint(tmp_path / "x.ckpt"), tiny_tensors()
    assert found.keys() == tensors.keys() and all(torch.equal(found[key], tensors[key]) for key in tensors)
    assert set(base(tmp_path / "x.ckpt")) == tensors.keys()


def test_old_names_of_the_text_encoder_position_ids_averages_and_mixed_types_are_read(tmp_path):
    tensors = tiny_tensors()
    old = {name.replace(TEXT + "text_model.", TEXT): value.half() if "attn" in name else value for name, value in tensors.items()}
    old |= {TEXT + "embeddings.position_ids": torch.arange(77), "betas": torch.ones(4), "cond_stage_model.logit_scale": torch.ones(())}
    old |= {
        "model_ema.diffusion_modeloutweight": torch.ones(2),
        "model_ema.decay": torch.ones(()),
        "first_stage_model.loss.logvar": torch.ones(()),
    }
    save_file(old, tmp_path / "x.safetensors")
    found = checkpoint(tmp_path / "x.safetensors")
    assert found.keys() == tensors.keys() and all(value.dtype == torch.float32 for value in found.values())
    with checkpoint_writer.opened(tmp_path / "x.safetensors") as entries:
        assert not [name for name in entries if name.startswith("model_ema.")] and "betas" in entries


# -- what the first bytes say --------------------------------------------------------------------------------------------

BEGINNINGS = {
    "a page": (b"<!DOCTYPE html><html><body>Log in</body></html>", "web page"),
    "a page with a mark": ("\ufeff\n <HTML lang='en'>".encode(), "web page"),
    "XML": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4265146304\n", "Git LFS pointer"),
    "GGUF": (b"GGUF\x03\0\0\0" + bytes(64), "GGUF"),
    "ONNX": (b"\x08\x07\x12\x07pytorch\x1a\x052.0.1:" + bytes(64), "ONNX"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(64), "HDF5"),
    "JSON": (b'{"error": "Unauthorized"}', "JSON"),
    "a list": (b'[\n {"_class_name": "x"}]', "JSON"),
    "text": (b"Zugriff verweigert, bitte anmelden", "is text, not a model; it begins with 'Zugriff"),
    "nothing": (b"", "is empty"),
    "zeros": (bytes(5000), "nothing but zeros"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(64), "packed archive"),
    "RAR": (b"Rar!\x1a\x07\x01" + bytes(64), "packed archive"),
    "gzip": (b"\x1f\x8b\x08" + bytes(64), "packed archive"),
    "JPEG": (b"\xff\xd8\xff\xe0" + bytes(64), "image"),
    "NumPy": (b"\x93NUMPY\x01\0" + bytes(64), "NumPy"),
    "a program": (b"MZ\x90\0" + bytes(64), "program for Windows"),
    "noise": (bytes(range(128, 256)), "no file of weights"),
    "one byte": (b"\x80", ""),
    "an empty archive": (b"PK\x05\x06" + bytes(18), "empty zip"),
}


@pytest.mark.parametrize("what", list(BEGINNINGS))
@pytest.mark.parametrize("name", ["x.safetensors", "x.ckpt"])
def test_what_is_no_model_is_named(tmp_path, what, name):
    content, said = BEGINNINGS[what]
    (tmp_path / name).write_bytes(content)
    assert all(said in refusal(reader, tmp_path / name) for reader in READERS)


@pytest.mark.parametrize("name", ["x.safetensors", "x.ckpt"])
@pytest.mark.parametrize("form", ["safetensors", "zip", "older"])
@pytest.mark.parametrize("part", [0.0005, 0.1, 0.5, 0.999])
def test_half_a_download_is_told_as_one(tmp_path, form, name, part):
    path = tmp_path / name
    tensors = {UNET + f"a.{number}": torch.ones(500) for number in range(9)}
    if form == "safetensors":
        save_file(tensors, path)
    else:
        torch.save({"state_dict": tensors}, path, _use_new_zipfile_serialization=form == "zip")
    content = path.read_bytes()
    path.write_bytes(content[: max(9, int(len(content) * part))])
    assert all("half a download" in refusal(reader, path) for reader in READERS)


@pytest.mark.parametrize("reader", list(READERS))
def test_folders_and_files_that_are_not_there_are_named(tmp_path, reader):
    assert "does not exist" in refusal(reader, tmp_path / "no.safetensors")
    folder = tmp_path / "sd15"
    folder.mkdir()
    assert "is a folder" in refusal(reader, folder)
    (folder / "config.json").write_text("{}")
    assert "one part of a model in the form of diffusers" in refusal(reader, folder)
    (folder / "model_index.json").write_text("{}")
    assert "in the form of diffusers" in refusal(reader, folder)


@pytest.mark.parametrize("reader", list(READERS))
@pytest.mark.parametrize("name", ["x" * 300 + ".pt", "folder/" + "y" * 5000, "a\0b.pt", "file.pt/inside.pt"])
def test_names_that_no_file_can_have_are_told(tmp_path, reader, name):
    (tmp_path / "file.pt").write_bytes(b"x")
    with pytest.raises(InputError, match=r"does not exist|cannot be read"):
        READERS[reader](tmp_path / name)


def test_what_was_trained_and_is_in_no_base_is_no_silent_loss(tmp_path):
    base = {"model.diffusion_model.out.2.bias": tensor_file.entry(torch.zeros(4))}
    trained = {"model.diffusion_model.out.2.weight": torch.zeros(4, 4)}
    with pytest.raises(SaveError, match=r"no model\.diffusion_model\.out\.2\.weight, which was trained"):
        checkpoint_writer.write(tmp_path / "x.safetensors", trained, base, {}, "fp16")
    assert not list(tmp_path.iterdir())


def written(header, numbers=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + numbers


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
DAMAGED = {
    "no JSON": written(b"{no JSON"),
    "no text": written(b'{"\xff\xff": 1}'),
    "deep": written(b'{"a":' + b"[" * 100_000),
    "no entry": written({"a": 3}),
    "no shape": written({"a": {**ENTRY, "shape": "x"}}, bytes(8)),
    "below zero": written({"a": {**ENTRY, "shape": [-2]}}, bytes(8)),
    "backwards": written({"a": {**ENTRY, "data_offsets": [8, 0]}}, bytes(8)),
    "another size": written({"a": {**ENTRY, "shape": [1]}}, bytes(8)),
    "huge": written({"a": {**ENTRY, "shape": [1 << 40, 1 << 40]}}, bytes(8)),
    "metadata": written({"__metadata__": 3, "a": ENTRY}, bytes(8)),
}


@pytest.mark.parametrize("what", list(DAMAGED))
def test_a_damaged_header_is_told(tmp_path, what):
    (tmp_path / "x.safetensors").write_bytes(DAMAGED[what])
    assert all("cannot be read" in refusal(reader, tmp_path / "x.safetensors") for reader in READERS)


def test_our_reader_reads_what_the_library_writes_and_its_metadata(tmp_path):
    tensors = {"a": torch.randn(3, 4).bfloat16(), "none": torch.ones(0, 4), "one": torch.tensor(5), "é": torch.randn(7) > 0}
    (tmp_path / "x.safetensors").write_bytes(save(tensors, {"k": "v"}))
    with weights_file.opened(tmp_path / "x.safetensors", "f") as weights:
        assert weights.metadata == {"k": "v"} and weights.tensors.keys() == tensors.keys()
        assert all(
            torch.equal(entry.value(), tensors[name]) and entry.shape == tensors[name].shape for name, entry in weights.tensors.items()
        )


def test_what_goes_wrong_while_a_file_is_open_stays_what_it_is(tmp_path):
    save_file(PATCHES, tmp_path / "x.safetensors")
    with pytest.raises(ZeroDivisionError), weights_file.opened(tmp_path / "x.safetensors", "f"):
        raise ZeroDivisionError
    with pytest.raises(ValueError, match="mine"), weights_file.opened(tmp_path / "x.safetensors", "f"):
        raise ValueError("mine")


# -- types of numbers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(tensor_file.DTYPES))
def test_every_type_that_torch_converts_is_read_and_carried_on(tmp_path, name):
    dtype = tensor_file.DTYPES[name]
    tensors = {key: value.to(dtype) for key, value in tiny_tensors().items()}
    tensor_file.write(tmp_path / "x.safetensors", {key: tensor_file.entry(value) for key, value in tensors.items()}, {})
    found = checkpoint(tmp_path / "x.safetensors")
    assert all(torch.equal(found[key], value.float()) for key, value in tensors.items())
    trained = {UNET + "out.2.bias": torch.zeros(4)}
    for ending in ("safetensors", "ckpt"):
        with checkpoint_writer.opened(tmp_path / "x.safetensors") as entries:
            checkpoint_writer.write(tmp_path / f"out.{ending}", trained, entries, {}, "fp16")
        out = checkpoint(tmp_path / f"out.{ending}")
        assert all(torch.equal(out[key], trained[key] if key in trained else tensors[key].float()) for key in tensors)


@pytest.mark.parametrize("name", list(tensor_file.DTYPES))
def test_a_lora_and_an_embedding_of_every_type_are_read_as_plain_numbers(tmp_path, name):
    dtype = tensor_file.DTYPES[name]
    for reader, tensors in (("LoRA", PATCHES), ("embedding", {"emb_params": torch.ones(2, 4)})):
        tensor_file.write(tmp_path / "x.safetensors", {key: tensor_file.entry(value.to(dtype)) for key, value in tensors.items()}, {})
        found = READERS[reader](tmp_path / "x.safetensors")
        values = found.values() if reader == "LoRA" else [found]
        assert all(
            value.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64) and bool((value == 1).all()) for value in values
        )


@pytest.mark.parametrize(("part", "value"), [("alpha", torch.ones(2)), ("scale", torch.ones(0)), ("lora_down.weight", torch.tensor(1.0))])
def test_a_lora_whose_numbers_are_broken_is_refused(tmp_path, part, value):
    name = f"lora_unet_mid_block_attentions_0_proj_in.{part}"
    save_file({**PATCHES, name: value}, tmp_path / "x.safetensors")
    assert f"is broken: {name}" in refusal("LoRA", tmp_path / "x.safetensors")


@pytest.mark.parametrize("reader", list(READERS))
@pytest.mark.parametrize("kind", ["F4", "C64", "F6_E2M3", "I4", "F128", "no type"])
def test_other_types_are_refused_by_name_before_the_start(tmp_path, kind, reader):
    (tmp_path / "x.safetensors").write_bytes(written({"first.weight": {"dtype": kind, "shape": [2], "data_offsets": [0, 8]}}, bytes(8)))
    said = refusal(reader, tmp_path / "x.safetensors")
    assert f"first.weight as {kind}" in said and "Save it as fp16" in said


def test_complex_numbers_in_a_pickle_are_refused(tmp_path):
    torch.save({"first.weight": torch.ones(2, dtype=torch.complex64)}, tmp_path / "x.ckpt")
    assert "first.weight as complex64" in refusal("checkpoint", tmp_path / "x.ckpt")


@pytest.mark.parametrize(
    "part",
    [
        UNET + "scaled_fp8",
        UNET + "out.2.scale_weight",
        UNET + "out.2.weight_scale",
        UNET + "out.2.weight.absmax",
        UNET + "out.2.weight.quant_state.bitsandbytes__nf4",
    ],
)
def test_packed_weights_are_refused_by_their_part(tmp_path, part):
    save_file({**tiny_tensors(), part: torch.ones(1)}, tmp_path / "x.safetensors")
    for reader in ("checkpoint", "base"):
        assert f"packed or scaled form (the part {part})" in refusal(reader, tmp_path / "x.safetensors")


# -- everything is used --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "part",
    [UNET + "input_blocks.1.1.transformer_blocks.0.fuser.linear.weight", "first_stage_model.decoder.time_mix.weight", TEXT + "text_model.prompt.weight",
     "lora_te_extra.weight2", "adapter_of_mine.weight", UNET + "input_blocks.1.0.in_layers.2.bias2", UNET + "out.2.weight.more"],
)  # fmt: skip
def test_a_checkpoint_with_a_part_that_nobody_uses_is_refused_by_the_parts_name(tmp_path, part):
    save_file({**tiny_tensors(), part: torch.ones(2)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError) as caught:
        HeadlessHost.open(tmp_path / "x.safetensors", tmp_path, device="cpu")
    assert part in str(caught.value) or "LoRA" in str(caught.value)


def test_a_checkpoint_that_stands_in_for_pictures_is_looked_at_as_well(tmp_path):
    save_file({**tiny_tensors(), UNET + "extra.weight": torch.ones(2)}, tmp_path / "x.safetensors")
    save_file(tiny_tensors(), tmp_path / "y.safetensors")
    host = HeadlessHost.open(tmp_path / "y.safetensors", tmp_path, device="cpu")

    def request(checkpoint):
        return PictureRequest("a cat", checkpoint=checkpoint, width_px=64, height_px=64, steps=1)

    with pytest.raises(CheckpointError, match=r"extra\.weight"):
        host.pictures.make(request(tmp_path / "x.safetensors"))
    assert host.pictures.make(request(tmp_path / "y.safetensors")).size == (64, 64)


def test_a_lora_in_another_form_is_refused_by_a_name_of_it(tmp_path):
    for name in (
        "unet.down_blocks.0.to_q.lora_A.weight",
        "lycoris_mid_block.lora_up.weight",
        "oft_unet_x.oft_blocks",
        "bundle_emb.a.clip_l",
    ):
        save_file({**PATCHES, name: torch.ones(2, 2)}, tmp_path / "x.safetensors")
        assert name in refusal("LoRA", tmp_path / "x.safetensors")


def test_the_layout_is_that_of_the_tiny_model(tmp_path):
    save_file(tiny_tensors(), tmp_path / "x.safetensors", {"text_encoder_heads": "2"})
    assert HeadlessHost.open(tmp_path / "x.safetensors", tmp_path, device="cpu").held.layout == small_layout()


# -- every refusal says what to do ------------------------------------------------------------------------------------------

DO = r"(Name|Download|Unpack|Convert|Get|Load|Fetch|Use|Save|Finetune trains)"


def packed(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "x")
        archive.writestr("model.safetensors", "x")


MADE = {
    "zip": packed,
    "image": lambda path: path.write_bytes(b"\xff\xd8\xff\xe0"),
    "PDF": lambda path: path.write_bytes(b"%PDF-1.4"),
    "table": lambda path: path.write_bytes(b"PAR1"),
    "program": lambda path: path.write_bytes(b"MZ\x90\0"),
    "absent": lambda path: None,
    "folder of peft": lambda path: (path.mkdir(), (path / "adapter_config.json").write_text("{}")),
    "folder of diffusers": lambda path: (path.mkdir(), (path / "model_index.json").write_text("{}")),
    "folder": lambda path: path.mkdir(),
    "list of the first trainer": lambda path: torch.save([torch.ones(8, 4), torch.ones(4, 8)], path),
}


@pytest.mark.parametrize("reader", ["checkpoint", "LoRA", "embedding"])
@pytest.mark.parametrize("what", list(MADE))
def test_each_refusal_says_what_to_do(tmp_path, reader, what):
    path = tmp_path / "x.safetensors"
    MADE[what](path)
    said = refusal(reader, path)
    assert re.search(DO, said) or "; name a " in said, said


@pytest.mark.parametrize(("what", "words"), [("zip", r"packed archive \(zip\)"), ("folder of peft", "a LoRA in the form of peft")])
def test_packed_files_and_folders_are_called_what_they_are(tmp_path, what, words):
    path = tmp_path / "x.safetensors"
    MADE[what](path)
    assert re.search(words, refusal("checkpoint", path))


def test_the_first_trainers_list_is_called_so(tmp_path):
    MADE["list of the first trainer"](tmp_path / "x.pt")
    assert "patches of the first LoRA trainer" in refusal("LoRA", tmp_path / "x.pt")
