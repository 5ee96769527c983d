"""What the first bytes of a file say that it is, whatever its name ends in."""

from __future__ import annotations

import re
import struct
from pathlib import Path

SAFETENSORS, ZIP, PICKLE = "safetensors", "zip", "pickle"
HEADER_AT_MOST = 100 << 20
"""Bytes of a ``.safetensors`` header, as the format's own library has it."""
_LOOKED_AT = 4096
_AGAIN = "Download it again"
_SAME = "Name the .safetensors of the model."
_PAGE = f"is a web page, not a model: the download gave the site's page, mostly one to log in or to agree at. {_AGAIN}, logged in."
_PACKED = "is a packed archive ({}). Unpack it and name the model inside."
_WEIGHTS = "Name the file of the weights."
_PICTURE = f"is an image ({{}}), not a model. {_WEIGHTS}"
_KNOWN: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (
        re.compile(rb"version https://git-lfs\.github\.com/"),
        "is a Git LFS pointer: a few lines of text instead of the model. Fetch the model itself (git lfs pull), or download it with the site's button.",
    ),
    (re.compile(rb"(\xef\xbb\xbf)?\s*(<!doctype html|<html|<head|<body|<!--)", re.IGNORECASE), _PAGE),
    (re.compile(rb"(\xef\xbb\xbf)?\s*<\?xml|(\xef\xbb\xbf)?\s*<Error>"), f"is XML, not a model: most likely a server's message of an error. {_AGAIN}."),
    (
        re.compile(rb"(\xef\xbb\xbf)?\s*[\[{]"),
        f"is JSON, not a model: a configuration, an index of parts, or a server's message of an error. Name the file of the weights, or {_AGAIN.lower()}.",
    ),
    (re.compile(rb"GGU[FT]|ggml|lmgg"), f"is a GGUF file: quantised weights for llama.cpp and its kin, too coarse to train on. {_SAME}"),
    (re.compile(rb"\x08[\x00-\x20](\x12.|:|\x1a|B)", re.DOTALL), f"is an ONNX file: a program with its weights for other runtimes. {_SAME}"),
    (re.compile(rb"\x89HDF\r\n"), f"is an HDF5 file, as Keras writes. {_SAME}"),
    (re.compile(rb".{4}TFL3", re.DOTALL), f"is a TensorFlow Lite file. {_SAME}"),
    (re.compile(rb"\x93NUMPY"), f"is a NumPy file. {_SAME}"),
    (re.compile(rb"PAR1"), f"is a Parquet table, not a model. {_WEIGHTS}"),
    (re.compile(rb"7z\xbc\xaf\x27\x1c"), _PACKED.format("7z")),
    (re.compile(rb"Rar!\x1a\x07"), _PACKED.format("RAR")),
    (re.compile(rb"\x1f\x8b"), _PACKED.format("gzip")),
    (re.compile(rb"BZh[1-9]"), _PACKED.format("bzip2")),
    (re.compile(rb"\xfd7zXZ\x00"), _PACKED.format("xz")),
    (re.compile(rb"\x28\xb5\x2f\xfd"), _PACKED.format("zstd")),
    (re.compile(rb"PK\x05\x06"), "is an empty zip archive. " + _AGAIN + "."),
    (re.compile(rb"\x89PNG\r\n"), _PICTURE.format("PNG")),
    (re.compile(rb"\xff\xd8\xff"), _PICTURE.format("JPEG")),
    (re.compile(rb"GIF8[79]a"), _PICTURE.format("GIF")),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), _PICTURE.format("WebP")),
    (re.compile(rb".{4}ftyp(avif|heic|mif1)", re.DOTALL), _PICTURE.format("AVIF or HEIC")),
    (re.compile(rb"%PDF-"), f"is a PDF, not a model. {_WEIGHTS}"),
    (re.compile(rb"MZ"), f"is a program for Windows, not a model. Do not start it. {_WEIGHTS}"),
    (re.compile(rb"\x7fELF"), f"is a program for Linux, not a model. Do not start it. {_WEIGHTS}"),
)  # fmt: skip
"""How a file begins → what it is and what to do."""


def container(path: Path) -> str:
    """`SAFETENSORS`, `ZIP` (torch's newer form) or `PICKLE` (its older one), by content.

    Raises:
        ValueError: something else; the message says what, and what to do, and follows the file's name.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_LOOKED_AT)
    if not head:
        raise ValueError(f"cannot be read: it is empty: the download, or a copy, did not begin. {_AGAIN}.")
    if _begins_as_safetensors(head, size):
        return SAFETENSORS
    if head[:4] == b"PK\x03\x04":
        return ZIP
    if head[:1] == b"\x80" and head[1:2] <= b"\x05":
        return PICKLE
    known = next((words for start, words in _KNOWN if start.match(head)), None)
    raise ValueError(f"cannot be read: it {known or _unknown(head)}")


def _begins_as_safetensors(head: bytes, size: int) -> bool:
    if len(head) < 9 or head[8:9] != b"{":
        return False
    length: int = struct.unpack("<Q", head[:8])[0]
    return length <= max(HEADER_AT_MOST, size)


def _unknown(head: bytes) -> str:
    if not head.strip(b"\0"):
        return f"begins with nothing but zeros: half a download, or a damaged disk. {_AGAIN}."
    if head[257:262] == b"ustar":
        return "is a tar archive: torch's form before 2017, or packed files. Unpack it, or save the model as .safetensors."
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        text = head[: error.start].decode("utf-8") if error.start > len(head) - 4 else "\0"
    if "\0" not in text:
        line = " ".join(text.split())[:60]
        return f"is text, not a model; it begins with {line!r}. {_AGAIN}."
    return f"is no file of weights: neither .safetensors nor what torch writes; it begins with {head[:8].hex(' ')}. {_AGAIN}."
