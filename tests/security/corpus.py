"""Files that once broke us, or are of the kind that did: each is made anew from these lines, and every reader of its kind is shown it.

A file that breaks something is added here first, with what it did; then the reader is mended.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable, Iterator

import torch
from PIL import Image
from safetensors.torch import save

MODULE = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


def safetensors(header: object, data: bytes = b"") -> bytes:
    """A file with this header, whatever it is."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + data


def pickled(content: object) -> bytes:
    """As torch writes a ``.ckpt``."""
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def png(width_px: int, height_px: int) -> bytes:
    """A PNG that says it has this size and is a few bytes long."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(min(width_px, 20_000) + 1)))
        + chunk(b"IEND", b"")
    )


def image(kind: str, size_px: int = 24) -> bytes:
    """A small picture of this kind."""
    file = io.BytesIO()
    Image.effect_noise((size_px, size_px), 90).convert("RGB").save(file, kind)
    return file.getvalue()


def _lora(down: torch.Tensor, up: torch.Tensor, alpha: torch.Tensor) -> bytes:
    return save({f"{MODULE}.lora_down.weight": down, f"{MODULE}.lora_up.weight": up, f"{MODULE}.alpha": alpha})


def _entry(kind: str = "F32", shape: object = (1,), offsets: object = (0, 4)) -> dict[str, object]:
    return {"dtype": kind, "shape": shape, "data_offsets": offsets}


WEIGHTS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "rank 0": ("ended `generate` with a ZeroDivisionError", lambda: _lora(torch.empty(0, 32), torch.empty(32, 0), torch.tensor(2.0))),
    "NaN": ("made a black image without a word", lambda: _lora(torch.full((2, 32), float("nan")), torch.ones(32, 2), torch.tensor(2.0))),
    "numbers for matrices": ("was a traceback", lambda: _lora(torch.tensor(1.0), torch.tensor(1.0), torch.tensor(2.0))),
    "several alphas": ("was a traceback", lambda: _lora(torch.ones(2, 32), torch.ones(32, 2), torch.ones(3))),
    "integer keys": ("was a traceback", lambda: pickled({1: torch.ones(2), "state_dict": {2: torch.ones(2)}})),
    "keys of all kinds": ("was a traceback", lambda: pickled({None: torch.ones(1), (1, 2): torch.ones(1), b"a": torch.ones(1)})),
    "a list": ("was a traceback", lambda: pickled([torch.ones(2)])),
    "nested header": ("ended Python's stack", lambda: safetensors(b"[" * 100_000)),
    "a header of 2^63 bytes": ("asked for all memory", lambda: struct.pack("<Q", 2**63) + b"{}"),
    "a shape of 2^62": ("asked for all memory", lambda: safetensors({"a": _entry(shape=(2**62, 4))}, bytes(8))),
    "a negative shape": ("was a traceback", lambda: safetensors({"a": _entry(shape=(-1,))}, bytes(8))),
    "offsets that cross": ("was a traceback", lambda: safetensors({"a": _entry(offsets=(4, 0))}, bytes(8))),
    "an offset of 400 digits": (
        "was a traceback",
        lambda: safetensors(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,' + b"9" * 400 + b"]}}"),
    ),
    "an unknown type": ("was a traceback", lambda: safetensors({"a": _entry(kind="F7")}, bytes(8))),
    "a type that is a list": ("was a traceback", lambda: safetensors({"a": _entry(kind=["F32"])}, bytes(8))),  # type: ignore[arg-type]
    "half a character in a name": (
        "could not be printed",
        lambda: safetensors(b'{"\\ud800": {"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
    ),
    "metadata that is a list": ("was a traceback", lambda: safetensors({"__metadata__": ["a"], "a": _entry()}, bytes(4))),
}
"""name → (what it did, its bytes)."""
IMAGES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "13,000² px in 20 KB": ("took 1.3 GB", lambda: png(13_000, 13_000)),
    "2^31 px wide": ("was a traceback", lambda: png(2**31 - 1, 1)),
    "no pixels": ("was a traceback", lambda: png(0, 0)),
    "half a JPEG": ("was trained on, grey below", lambda: image("JPEG")[:300]),
    "a PNG without its end": ("was a traceback", lambda: image("PNG")[:-100]),
    "nothing": ("was a traceback", lambda: b""),
}
TEXTS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "UTF-16": ("was read as letters between NULs", lambda: "a cat".encode("utf-16-le")),
    "NUL": ("was a traceback", lambda: b"a\0b"),
    "no UTF-8": ("was a traceback", lambda: b"\xff\xfe\xfd caf\xe9"),
    "half a character": ("could not be answered", lambda: b"\xed\xa0\x80"),
    "brackets without end": ("ended Python's stack", lambda: b"(" * 100_000 + b"cat"),
    "alternatives of alternatives": ("took for ever", lambda: b"{a|" * 40 + b"b" + b"}" * 40),
}
SETTINGS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "nested JSON": ("ended Python's stack", lambda: b"[" * 100_000),
    "nested TOML": ("ended Python's stack", lambda: b"a = " + b"[" * 100_000),
    "dotted TOML": ("ended Python's stack", lambda: b".".join([b"a"] * 5000) + b" = 1"),
    "400 digits": ("was a traceback", lambda: b'{"training": {"steps": 1' + b"0" * 400 + b"}}"),
    "5,000 digits": ("was a traceback", lambda: b'{"training": {"steps": ' + b"9" * 5000 + b"}}"),
    "NaN": ("passed every limit", lambda: b'{"network": {"alpha": NaN}}'),
    "endless": ("passed every limit", lambda: b'{"network": {"alpha": 1e999}}'),
    "half a character": ("could not be answered", lambda: b'{"name": "\\ud800"}'),
    "no table": ("was a traceback", lambda: b"[]"),
    "an object as a number": ("was a traceback", lambda: b'{"training": {"steps": {"a": 1}}}'),
}


def mutations(content: bytes, places: list[int], values: list[int]) -> Iterator[bytes]:
    """The bytes with some of them changed, or cut there."""
    changed = bytearray(content)
    for place, value in zip(places, values, strict=False):
        changed[place % max(1, len(changed))] = value
    yield bytes(changed)
    yield content[: places[0] % max(1, len(content))]
