"""ICC profiles for tests, from published numbers."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def _fixed(*numbers: float) -> bytes:
    return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)


def _profile(kind: bytes, space: bytes, pcs: bytes, tags: Mapping[bytes, bytes], version: int = 0x04200000) -> bytes:
    head = 128 + 4 + 12 * len(tags)
    table, body = b"", b""
    for name, content in tags.items():
        table += struct.pack(">4sII", name, head + len(body), len(content))
        body += content + b"\0" * (-len(content) % 4)
    fields = struct.pack(">I4xI4s4s4s12x4s", head + len(body), version, kind, space, pcs, b"acsp")
    return (fields.ljust(68, b"\0") + _fixed(0.9642, 1, 0.8249)).ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def _text(words: str) -> bytes:
    encoded = words.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(encoded), 28) + encoded


def display_p3() -> bytes:
    """What phones embed (Apple's colorants, under D50)."""
    colorants = {b"rXYZ": (0.51512, 0.24120, -0.00105), b"gXYZ": (0.29198, 0.69225, 0.04189), b"bXYZ": (0.15710, 0.06657, 0.78407)}
    curve = b"para\0\0\0\0" + struct.pack(">HH", 3, 0) + _fixed(*_SRGB_CURVE)
    tags = {name: b"XYZ \0\0\0\0" + _fixed(*numbers) for name, numbers in colorants.items()}
    return _profile(b"mntr", b"RGB ", b"XYZ ", {b"desc": _text("Display P3"), **tags, **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)})


def grey(gamma: float) -> bytes:
    """Of grey images."""
    curve = b"para\0\0\0\0" + struct.pack(">HH", 0, 0) + _fixed(gamma)
    return _profile(
        b"mntr", b"GRAY", b"XYZ ", {b"desc": _text("grey"), b"wtpt": b"XYZ \0\0\0\0" + _fixed(0.9642, 1, 0.8249), b"kTRC": curve}
    )


def cmyk(colour_of_cyan: Sequence[int]) -> bytes:
    """Of a printer whose cyan is another colour, given as L, a, b; its other inks are black."""
    identity = bytes(range(256))
    white, black = (255, 128, 128), (0, 128, 128)
    cyan = (round(colour_of_cyan[0] * 255 / 100), colour_of_cyan[1] + 128, colour_of_cyan[2] + 128)
    corners = [white if not any(inks) else cyan if inks == (1, 0, 0, 0) else black for inks in _corners()]
    table = (
        b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1) + identity * 4 + bytes(sum(corners, ())) + identity * 3
    )
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"desc": _text("printer"), b"A2B0": table}, version=0x02400000)


def _corners() -> list[tuple[int, int, int, int]]:
    return [(c, m, y, k) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
