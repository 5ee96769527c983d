"""Files that are meant to take all memory or all time: each is named with its figure, and the others are used."""

import os
import struct
import time
import zlib

import pytest
from PIL import Image

from lib_finetune.data import images
from lib_finetune.data.images import UnreadablePictureError, decode
from lib_finetune.data.scan import scan


def bomb(width, height):
    """A PNG of some KB with so many pixels of one colour."""
    rows = zlib.compressobj(9)
    line = b"\0" + b"\0" * (width // 8)
    data = b"".join(rows.compress(line) for _ in range(height)) + rows.flush()

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_a_small_file_of_very_many_pixels_is_refused_by_its_header():
    data = bomb(13_000, 13_000)
    assert len(data) < 100_000
    start = time.monotonic()
    with pytest.raises(UnreadablePictureError, match=r"13000×13000 px are 169 megapixels, and at most 64"):
        decode(data)
    assert time.monotonic() - start < 1.0


def test_a_photo_of_50_megapixels_is_read():
    assert decode(bomb(8688, 5792)).size == (8688, 5792)


def test_a_file_that_is_too_large_is_left_out_with_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "FILE_BYTES", 10_000)
    Image.new("RGB", (64, 64)).save(tmp_path / "good.png")
    (tmp_path / "large.png").write_bytes(os.urandom(20_000))
    report = scan(tmp_path)
    assert [picture.name for picture in report.pictures] == ["good.png"]
    ((path, reason),) = report.broken
    assert path.name == "large.png" and "MB" in reason and "save it smaller" in reason


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX's")
def test_a_pipe_among_the_images_holds_nothing_up(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "good.png")
    for name in ("pipe.png", "good.txt", "metadata.jsonl"):
        os.mkfifo(tmp_path / name)
    start = time.monotonic()
    assert [picture.name for picture in scan(tmp_path).pictures] == ["good.png"]
    assert time.monotonic() - start < 10
