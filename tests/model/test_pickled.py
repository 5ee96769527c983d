"""Files of other people: their tensors are read, whatever else lies in the file, and nothing of it runs."""

import builtins
import codecs
import collections
import io
import os
import pickle
import struct
import sys
import types
import zipfile

import pytest
import torch

from lib_finetune.model import pickled


class Trap:
    """Runs a command when a careless reader unpickles it."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.fixture
def foreign(monkeypatch):
    """A class of a program that readers do not have, as Lightning's ModelCheckpoint is."""
    module = types.ModuleType("lightning_of_old")
    exec("class Callback:\n    def __init__(self, **kw):\n        self.__dict__.update(kw)\nclass Found(set):\n    pass", module.__dict__)
    module.Callback.__module__ = module.Found.__module__ = "lightning_of_old"
    monkeypatch.setitem(sys.modules, "lightning_of_old", module)
    return module


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_are_read_beside_foreign_objects(tmp_path, monkeypatch, foreign, zipped):
    weight = torch.randn(3, 4).half()
    content = {
        "state_dict": collections.OrderedDict(weight=weight, bias=torch.nn.Parameter(torch.ones(2))),
        "callbacks": {foreign.Callback: {"best": foreign.Callback(score=torch.tensor(1.0), notes=[foreign.Callback()])}},
        "seen": foreign.Found([1, 2]),
        "global_step": 470000,
    }
    path = tmp_path / "old.ckpt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    monkeypatch.delitem(sys.modules, "lightning_of_old")
    found = pickled.load(path)
    assert found["global_step"] == 470000 and torch.equal(found["state_dict"]["weight"], weight)
    assert torch.equal(found["state_dict"]["bias"].detach(), torch.ones(2))


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_of_a_file_runs(tmp_path, zipped):
    mark, path = tmp_path / "was-here", tmp_path / "bad.ckpt"
    torch.save({"state_dict": {"weight": torch.ones(2)}, "more": Trap(mark)}, path, _use_new_zipfile_serialization=zipped)
    assert torch.equal(pickled.load(path)["state_dict"]["weight"], torch.ones(2)) and not mark.exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half a file"])
def test_a_broken_file_raises_what_is_told(tmp_path, content):
    path = tmp_path / "broken.ckpt"
    path.write_bytes(content)
    with pytest.raises(pickled.ERRORS):
        pickled.load(path)


# -- the same tensors as torch reads -----------------------------------------------------------------------------------

_DTYPES = [
    torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
    torch.bool, torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2,
]  # fmt: skip
NUMBERS = struct.pack("<3f", 1, 2, 3)
BOTH = pytest.mark.parametrize("zipped", [True, False])


def same(ours, theirs):
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape and ours.stride() == theirs.stride()
    return ours.contiguous().view(-1).view(torch.uint8).equal(theirs.detach().contiguous().view(-1).view(torch.uint8))


@BOTH
@pytest.mark.parametrize("dtype", _DTYPES, ids=str)
def test_every_type_is_read_as_torch_reads_it(tmp_path, zipped, dtype):
    if dtype.itemsize == 1 and dtype.is_floating_point and not zipped:
        pytest.skip("torch writes these in the newer form only")
    value = (torch.arange(24) % 5).to(dtype).reshape(2, 3, 4)
    torch.save({"a": value, "none": value[:0], "one": value[0, 0, 1]}, path := tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    found = pickled.load(path)
    assert all(same(found[name], other) for name, other in (("a", value), ("none", value[:0]), ("one", value[0, 0, 1])))


@BOTH
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_nested_and_shared_things_are_read_as_torch_reads_them(tmp_path, zipped, protocol):
    whole = torch.arange(60.0).reshape(3, 4, 5)
    state = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).state_dict()  # carries ``_metadata``
    content = {
        "state_dict": state,
        "views": [whole[1:, ::2], whole.transpose(0, 2), whole[2, 1], whole[0, 0, :1].expand(4, 7)],
        "parameter": torch.nn.Parameter(torch.ones(2), requires_grad=False),
        "words": ("é", b"\x00\xff", None, True, -1, 2**70, 1.5, {1, 2}, frozenset([3]), [[], {}], (), torch.float16, torch.Size([1, 2])),
    }
    path = tmp_path / "x.pt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    found = pickled.load(path)
    assert list(found["state_dict"]) == list(state) and all(same(found["state_dict"][name], state[name]) for name in state)
    assert all(same(ours, theirs) for ours, theirs in zip(found["views"], content["views"], strict=True))
    assert found["views"][0].untyped_storage().data_ptr() == found["views"][1].untyped_storage().data_ptr()
    assert same(found["parameter"], content["parameter"]) and found["words"] == content["words"]


@BOTH
def test_an_embedding_as_the_papers_program_saved_it(tmp_path, zipped):
    parameters = torch.nn.ParameterDict({"*": torch.nn.Parameter(torch.full((2, 4), 0.5))})
    torch.save({"string_to_token": {"*": torch.tensor(265)}, "string_to_param": parameters}, path := tmp_path / "x.pt",
               _use_new_zipfile_serialization=zipped)  # fmt: skip
    assert torch.equal(pickled.load(path)["string_to_param"]["*"], torch.full((2, 4), 0.5))


@BOTH
def test_numpy_beside_the_tensors_is_passed_over(tmp_path, zipped):
    import numpy as np

    content = {"weight": torch.ones(2), "loss": np.float64(0.5), "picture": np.zeros((2, 2)), "names": np.array(["a"], dtype=object)}
    torch.save(content, path := tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    assert list(pickled.tensors(path)) == ["weight"]


@BOTH
def test_the_file_stays_as_it_is_when_its_tensors_are_written_to(tmp_path, zipped):
    torch.save({"a": torch.ones(2)}, path := tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    before = path.read_bytes()
    pickled.load(path)["a"].zero_()
    assert path.read_bytes() == before


def test_a_name_in_another_script_and_bytes_that_do_not_begin_at_a_multiple(tmp_path):
    torch.save({"a": torch.arange(3.0)}, path := tmp_path / "модель.ckpt")
    assert torch.equal(pickled.tensors(path)["a"], torch.arange(3.0))
    for shift in (1, 4):
        path.write_bytes(archive(described("F", 3), {"0": struct.pack("<3f", 1, 2, 3)}, before=b"#" * shift))
        assert pickled.load(path).tolist() == [1, 2, 3]


# -- what is refused ---------------------------------------------------------------------------------------------------


def archive(content, storages, extra=(), prefix="x", before=b"", packed=()):
    """A zip archive as torch writes it, from a pickle and the bytes of storages."""
    members = {"data.pkl": content, **{f"data/{key}": value for key, value in storages.items()}, "version": b"3\n", **dict(extra)}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        opened.comment = b""
        if before:
            opened.writestr(f"{prefix}/.data/pad", before)
        for name, value in members.items():
            kind = zipfile.ZIP_DEFLATED if name in packed else zipfile.ZIP_STORED
            opened.writestr(f"{prefix}/{name}" if not name.startswith("!") else name[1:], value, compress_type=kind)
    return file.getvalue()


def older(content, keys=("0",), storages=(NUMBERS,), counts=(3,)):
    """The form without an archive, from a pickle and the bytes of storages."""
    head = b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    rest = b"".join(struct.pack("<q", count) + value for count, value in zip(counts, storages))
    return head + content + pickle.dumps(list(keys), 2) + rest


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value):
    return pickle.dumps(value, 2)[2:-1]


def named(module, name):
    return f"c{module}\n{name}\n".encode()


def described(kind="F", count=3, size=(3,), stride=(1,), offset=0, storage=None):
    """The pickle of one tensor."""
    kind = {"F": "FloatStorage"}.get(kind, kind)
    outside = (
        b"("
        + text("storage")
        + named("torch", kind)
        + text("0")
        + text("cpu")
        + number(count)
        + (b"" if storage is None else storage)
        + b"tQ"
    )
    rest = number(offset) + number(size) + number(stride) + b"\x89" + named("collections", "OrderedDict") + b")R"
    return b"\x80\x02" + named("torch._utils", "_rebuild_tensor_v2") + b"(" + outside + rest + b"tR."


def refused(tmp_path, content, said):
    path = tmp_path / "bad.ckpt"
    path.write_bytes(content)
    with pytest.raises(pickled.ForeignFileError, match=said) as error:
        pickled.load(path)
    assert str(error.value).startswith("bad.ckpt ") and len(str(error.value)) < 500
    return str(error.value)


def test_the_forms_made_here_by_hand_are_read(tmp_path):
    path = tmp_path / "x.ckpt"
    for content in (archive(described(), {"0": NUMBERS}), older(described(storage=b"N"))):
        path.write_bytes(content)
        assert pickled.load(path).tolist() == [1, 2, 3]


def test_an_archive_of_torchscript_is_refused_and_does_not_run(tmp_path, monkeypatch):
    class Runs(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1

    torch.jit.save(torch.jit.script(Runs()), str(tmp_path / "bad.ckpt"))
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("torch.jit.load was asked"))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load was asked"))
    refused(tmp_path, (tmp_path / "bad.ckpt").read_bytes(), "TorchScript")


@pytest.mark.parametrize(
    "name", ["constants.pkl", "code/__torch__.py", "extra/x", "data/0.txt", "data/../data.pkl", "!/etc/x", "!../x", "!y/data/1", "!data.pkl",
             "x.py", "data/", ".data/a/b", "!x\\data.pkl"],
)  # fmt: skip
def test_a_member_that_no_file_of_tensors_has_is_refused_by_name(tmp_path, name):
    said = refused(tmp_path, archive(described(), {"0": NUMBERS}, {name: b"x"}), "is not read")
    assert name.lstrip("!").split("\\")[0].rsplit("/", 1)[-1] in said


@pytest.mark.parametrize("name", [".format_version", ".storage_alignment", ".data/serialization_id", "byteorder"])
def test_members_that_newer_versions_write_are_passed_over(tmp_path, name):
    (tmp_path / "x.ckpt").write_bytes(archive(described(), {"0": NUMBERS}, {name: b"little"}))
    assert pickled.load(tmp_path / "x.ckpt").tolist() == [1, 2, 3]


def test_packed_locked_double_and_hidden_members_are_refused(tmp_path):
    for packed in (["data.pkl"], ["data/0"], ["version"]):
        refused(tmp_path, archive(described(), {"0": NUMBERS}, packed=packed), "packed")
    refused(tmp_path, archive(described(), {"0": NUMBERS}, {"byteorder": b"big"}), "order of bytes")
    whole = archive(described(), {"0": NUMBERS})
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(file := io.BytesIO(whole), "a") as opened:
        opened.writestr("x/data.pkl", b"N.")
    refused(tmp_path, file.getvalue(), "twice")
    at = whole.index(b"PK\x01\x02")
    refused(tmp_path, whole[: at + 8] + b"\x01" + whole[at + 9 :], "packed or locked")
    refused(tmp_path, whole.replace(b"x/data/0", b"x/data/1", 1), "two ways")  # its own head says another name
    refused(tmp_path, whole[:-30], "no whole zip")
    refused(tmp_path, archive(described(), {}), "data/0 is missing")


@pytest.mark.parametrize(
    "how",
    [
        {"count": 10**15}, {"count": 4}, {"count": 2}, {"count": -1}, {"size": (4,)}, {"offset": 1}, {"offset": -1}, {"size": (2, 3), "stride": (1, 1)},
        {"size": (2,), "stride": (3,)}, {"size": (2,), "stride": (-1,)}, {"size": (10**15,), "stride": (0,)}, {"size": (2**40,) * 65, "stride": (0,) * 65},
        {"size": (2,), "stride": (2**61,)}, {"size": ("2",)}, {"size": (True,)}, {"stride": ()}, {"kind": "QInt8Storage"}, {"kind": "nn.Module"},
        {"kind": "load"}, {"count": "3"}, {"count": None}, {"size": None}, {"size": (0,), "offset": 4},
    ],
    ids=str,
)  # fmt: skip
def test_a_tensor_outside_of_its_storage_is_refused(tmp_path, how):
    refused(tmp_path, archive(described(**how), {"0": NUMBERS}), "bad.ckpt")
    refused(tmp_path, older(described(**how, storage=b"N")), "bad.ckpt")


def test_a_part_of_a_storage_as_old_versions_wrote_it(tmp_path):
    (tmp_path / "x.ckpt").write_bytes(older(described(size=(2,), storage=text("v") + number(1) + number(2) + b"\x87")))
    assert pickled.load(tmp_path / "x.ckpt").tolist() == [2, 3]
    for start, count in ((2, 2), (-1, 2), (0, 4)):
        refused(tmp_path, older(described(size=(1,), storage=text("v") + number(start) + number(count) + b"\x87")), "bad.ckpt")
    refused(tmp_path, older(described(size=(3,), storage=text("v") + number(1) + number(2) + b"\x87")), "beyond its storage")


def test_a_repeated_number_is_read_up_to_a_million_times(tmp_path):
    path = tmp_path / "x.ckpt"
    path.write_bytes(archive(described(size=(1 << 10, 1 << 10), stride=(0, 0)), {"0": NUMBERS}))
    assert pickled.load(path).shape == (1 << 10, 1 << 10)
    refused(tmp_path, archive(described(size=(1 << 10, (1 << 10) + 1), stride=(0, 0)), {"0": NUMBERS}), "beyond its storage")


def test_a_storage_of_more_or_fewer_parts_than_torch_writes_is_refused(tmp_path):
    refused(tmp_path, archive(described(storage=b"N"), {"0": NUMBERS}), "no storage")  # the part of a storage, which archives do not have
    refused(tmp_path, older(described(storage=b"NN")), "no storage")
    refused(tmp_path, older(described()[:-1].replace(text("cpu"), b"") + b"."), "no storage")


@pytest.mark.parametrize("other", [{"count": 2, "size": (2,)}, {"kind": "IntStorage"}])
def test_a_storage_that_is_described_in_two_ways_is_refused(tmp_path, other):
    for storage, file in ((None, lambda content: archive(content, {"0": NUMBERS})), (b"N", older)):
        twice = b"\x80\x02(" + described(storage=storage)[2:-1] + described(**other, storage=storage)[2:-1] + b"t."
        refused(tmp_path, file(twice), "two ways|another size|its storage 0")


def test_a_tensor_without_numbers_is_read(tmp_path):
    path = tmp_path / "x.ckpt"
    empty = {"count": 0, "size": (0, 4), "stride": (4, 1)}
    for content in (archive(described(**empty), {"0": b""}), older(described(**empty, storage=b"N"), storages=(b"",), counts=(0,))):
        path.write_bytes(content)
        assert pickled.load(path).shape == (0, 4)


@pytest.mark.parametrize("key", [b"S'w'", b'S"w"', b"Vw"])
def test_text_of_the_oldest_protocol_is_read(tmp_path, key):
    (tmp_path / "x.ckpt").write_bytes(archive(b"\x80\x02}" + key + b"\n" + described()[2:-1] + b"s.", {"0": NUMBERS}))
    assert pickled.tensors(tmp_path / "x.ckpt")["w"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("key", [b"S", b"S'", b"Sw", b"S'w\"", b"SwwwS", b"S'w\\x77'"])
def test_text_of_the_oldest_protocol_without_its_quotes_is_refused(tmp_path, key):
    refused(tmp_path, archive(b"\x80\x02}" + key + b"\n" + described()[2:-1] + b"s.", {"0": NUMBERS}), "not in quotes|old form")


@pytest.mark.parametrize(
    "content",
    [
        older(described(storage=b"N"), counts=(4,)), older(described(storage=b"N"), storages=(b"",)), older(described(storage=b"N"), keys=("1",)),
        older(described(storage=b"N"), keys=()), older(described(storage=b"N"))[:-1], b"\x80\x02N.", b"<!DOCTYPE html>", b"\x80",
        b"\x80\x09N.", bytes(257) + b"ustar" + bytes(300), older(described(storage=b"N"), keys=([["0"]],)),
    ],
)  # fmt: skip
def test_a_broken_file_of_the_older_form_is_refused(tmp_path, content):
    refused(tmp_path, content, "bad.ckpt")


# -- what a pickle may try ---------------------------------------------------------------------------------------------


def _called(module, name, arguments):
    return named(module, name) + arguments + b"R"


ATTACKS = {
    "eval": _called("builtins", "eval", b"(" + text("MARK") + b"t"),
    "exec of Python 2": _called("__builtin__", "exec", b"(" + text("MARK") + b"t"),
    "system, as an old object": b"(" + text("touch MARK") + b"iposix\nsystem\n",
    "system, as a new object": named("posix", "system") + b"(" + text("touch MARK") + b"t\x81",
    "system, by the stack": text("posix") + text("system") + b"\x93(" + text("touch MARK") + b"tR",
    "system, with its arguments before": b"(" + named("posix", "system") + text("touch MARK") + b"o",
    "attribute of a known thing": _called("builtins", "getattr", b"(" + named("torch", "Size") + text("__class__") + b"t"),
    "attribute of a module": _called("operator", "attrgetter", b"(" + text("system") + b"t") + b"(" + named("os", "x") + b"tR",
    "dotted name": named("torch._utils", "_rebuild_tensor_v2.__globals__") + b"(tR",
    "dotted module": named("collections.abc.sys.modules", "os") + b"(tR",
    "torch's own loader": _called("torch", "load", b"(" + text("MARK") + b"t"),
    "torch's script loader": _called("torch.jit", "load", b"(" + text("MARK") + b"t"),
    "our own functions": _called("lib_finetune.model.pickled", "load", b"(" + text("MARK") + b"t"),
    "state with code": named("torch", "Tensor") + b")\x81}" + text("__setstate__") + named("posix", "system") + b"sb",
    "state of an ordered dict": named("collections", "OrderedDict") + b")R}" + text("items") + named("posix", "system") + b"sb",
    "partial": _called("functools", "partial", b"(" + named("posix", "system") + text("touch MARK") + b"t") + b")R",
}  # fmt: skip


@BOTH
@pytest.mark.parametrize("attack", ATTACKS)
def test_whatever_a_pickle_asks_for_nothing_of_it_runs(tmp_path, monkeypatch, zipped, attack):
    mark = tmp_path / "mark"
    monkeypatch.setattr(os, "system", lambda *_: mark.touch())
    monkeypatch.setattr(builtins, "eval", lambda *_: mark.touch())
    before = set(sys.modules)
    content = (
        b"\x80\x02}("
        + text("bad")
        + ATTACKS[attack].replace(b"MARK", b"MARK")
        + text("w")
        + described(storage=None if zipped else b"N")[2:-1]
        + b"u."
    )
    (tmp_path / "x.ckpt").write_bytes(archive(content, {"0": NUMBERS}) if zipped else older(content))
    found = pickled.load(tmp_path / "x.ckpt")
    assert found["w"].tolist() == [1, 2, 3] and not mark.exists()
    assert {
        name for name in set(sys.modules) - before if not name.startswith("encodings.")
    } == set()  # zipfile looks one up at its first archive
    assert not callable(found["bad"]) and type(found["bad"]).__module__ in ("lib_finetune.model.unpickler", "collections")
    assert callable(getattr(found["bad"], "items", len)), "a pickle has replaced a method"


BOMBS = {
    "a size that is not there": b"\x8e" + struct.pack("<Q", 2**60),
    "a place in the memo": b"N" + b"r\xff\xff\xff\x7f" + b"j\xff\xff\xff\x7f" + b"j\xfe\xff\xff\x7f",
    "one list made into many": b"(" + b"NN\x86" * 4096 + b"lq\x000" + (named("collections", "OrderedDict") + b"q\x010") + b"h\x01h\x00\x85R0" * 4096 + b"N",
    "a key that takes for ever": b")" + b"2\x86" * 60 + b"q\x00}h\x00Ns",
    "more parts than there can be": b"N0" * 1_100_000 + b"N",
    "a number of many digits": b"I" + b"9" * 4000 + b"\n",
    "negative counts": b"\x8b\xff\xff\xff\xff",
    "a thing of the registry": b"\x82\x01",
    "a name outside, in a line": b"Psome\n",
    "a buffer outside": b"\x97",
    "nothing at all": b"0",
    "a mark too few": b"t",
    "a mark as a value": b"(\x85",
    "text encoded as code": _called("_codecs", "encode", b"(" + text("42") + text("hex") + b"t"),
    "a tensor of a text": _called("torch._utils", "_rebuild_tensor_v2", b"(" + text("x") + number(0) + b"))\x89}t"),
    "a tensor of a class": _called("torch._utils", "_rebuild_tensor_v2", b"(" + named("torch", "FloatStorage") + number(0) + b"))\x89}t"),
    "a parameter of a list": _called("torch._utils", "_rebuild_parameter", b"(]\x89}t"),
    "an ordered dict of a number": _called("collections", "OrderedDict", number(5) + b"\x85"),
    "a call of a value": number(5) + b")R",
    "a list as a key": b"}]Ns",
    "values for no list": b"}Na",
    "something outside that is no storage": text("storage") + b"Q",
    "a class outside": b"(" + text("module") + number(1) + number(1) + number(1) + b"tQ" + b"N\x85R",
}  # fmt: skip


@BOTH
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_pickle_that_would_take_memory_or_time_is_refused_soon(tmp_path, zipped, bomb):
    content = b"\x80\x02" + BOMBS[bomb] + b"."
    if not zipped and bomb == "a class outside":
        pytest.skip("the older form has such things; they are inert")
    refused(tmp_path, archive(content, {}) if zipped else older(content, (), (), ()), "cannot be read")


def test_what_is_nested_deeply_is_read_without_recursion(tmp_path):
    content = b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b"."
    (tmp_path / "x.ckpt").write_bytes(archive(content, {}))
    assert pickled.tensors(tmp_path / "x.ckpt") == {}


@BOTH
def test_a_function_that_reduces_to_a_command_leaves_the_rest_readable(tmp_path, zipped):
    class Codec:
        def __reduce__(self):
            return codecs.decode, ("x", "rot13")

    torch.save({"a": Codec(), "w": torch.ones(1)}, path := tmp_path / "x.ckpt", _use_new_zipfile_serialization=zipped)
    assert pickled.load(path)["w"].item() == 1
