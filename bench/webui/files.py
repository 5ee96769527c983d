"""Files that the driver makes and compares, with the standard library alone: it runs wherever playwright is."""

from __future__ import annotations

import json
import random
import struct
import zlib
from pathlib import Path
from typing import Any


def draw(folder: Path, count: int = 4, side: int = 128) -> Path:
    """Images of a disc before a sky, as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(7)
    for number in range(count):
        disc, sky = ([rng.randrange(256) for _ in range(3)] for _ in range(2))
        x, y, radius = (rng.randrange(side // 3, side // 2) for _ in range(3))
        rows = b"".join(
            b"\0" + b"".join(bytes(disc if (i - x) ** 2 + (j - y) ** 2 < radius**2 / 2 else sky) for i in range(side)) for j in range(side)
        )
        head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        parts = _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")
        (folder / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return folder


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def tensors(path: Path) -> tuple[dict[str, Any], bytes]:
    """Names, shapes and bytes of a safetensors file, without its metadata (which holds the time and the name)."""
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    return header, content[8 + length :]


def pixels(png: bytes) -> bytes:
    """What a PNG's lines hold, filtered as its writer chose to: equal for equal images of one writer, whatever text is beside them."""
    place, found = 8, b""
    while place < len(png):
        length, kind = struct.unpack(">I4s", png[place : place + 8])
        if kind == b"IDAT":
            found += png[place + 8 : place + 8 + length]
        place += length + 12
    return zlib.decompress(found)
