from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from lib_finetune.data.cache import LatentCache, _seal, variant_key

ENTRY_BYTES = 2 * 4 * 8 * 8 * 4


def entry(seed: int, side: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 4, side, side, generator=generator), torch.rand(1, 4, side, side, generator=generator)


def key(cache: LatentCache, number: int) -> str:
    return cache.key(f"{number:064x}", (64, 64), (0.5, 0.5), False)


def same(found, expected) -> bool:
    return found is not None and all(torch.equal(a, b) and a.dtype == torch.float32 for a, b in zip(found, expected, strict=True))


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("on_disk", [True, False])
@pytest.mark.parametrize("ram_bytes", [0, 3 * ENTRY_BYTES, 2**20])
def test_what_was_put_comes_back_bit_equal(tmp_path, on_disk, ram_bytes):
    cache = LatentCache(tmp_path if on_disk else None, "vae", ram_bytes)
    for number in range(10):
        cache.put(key(cache, number), *entry(number))
    assert all(same(cache.get(key(cache, number)), entry(number)) for number in range(10))


@pytest.mark.parametrize("on_disk", [True, False])
def test_memory_stays_within_its_bound(tmp_path, on_disk):
    cache = LatentCache(tmp_path if on_disk else None, "vae", 5 * ENTRY_BYTES)
    for number in range(100):
        cache.put(key(cache, number), *entry(number))
        cache.get(key(cache, number // 2))
        cache.put(key(cache, number), *entry(number))
        assert sum(t.numel() * 4 for pair in cache._ram.values() for t in pair) == min(number + 1, 5) * ENTRY_BYTES


def test_the_least_used_entry_leaves_memory_first():
    cache = LatentCache(None, "vae", 2 * ENTRY_BYTES)
    for number in (1, 2):
        cache.put(key(cache, number), *entry(number))
    cache.get(key(cache, 1))
    cache.put(key(cache, 3), *entry(3))
    assert set(cache._ram) == {key(cache, 1), key(cache, 3)}


def test_putting_again_replaces(tmp_path):
    cache = LatentCache(tmp_path, "vae", 0)
    cache.put(key(cache, 1), *entry(1))
    cache.put(key(cache, 1), *entry(2))
    assert same(cache.get(key(cache, 1)), entry(2))


def test_an_unknown_key_is_a_miss(tmp_path):
    for folder in (tmp_path, None):
        cache = LatentCache(folder, "vae")
        assert cache.get(key(cache, 1)) is None
        assert key(cache, 1) not in cache


def test_entries_on_disk_outlive_the_object(tmp_path):
    first = LatentCache(tmp_path, "vae")
    first.put(key(first, 1), *entry(1))
    second = LatentCache(tmp_path, "vae")
    assert key(second, 1) in second
    assert same(second.get(key(second, 1)), entry(1))


def test_files_lie_in_two_digit_folders_and_nothing_else_is_left(tmp_path):
    cache = LatentCache(tmp_path, "vae")
    cache.put(key(cache, 1), *entry(1))
    assert files(tmp_path) == [tmp_path / key(cache, 1)[:2] / f"{key(cache, 1)}.safetensors"]


def damaged(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "cut off":
        path.write_bytes(data[:-100])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "garbage":
        path.write_bytes(os.urandom(500))
    elif how == "one byte":
        path.write_bytes(data[:-300] + bytes([data[-300] ^ 1]) + data[-299:])
    elif how == "foreign":
        safetensors.torch.save_file({"weight": torch.zeros(3)}, path)
    elif how == "half precision":
        halves = tuple(tensor.half() for tensor in entry(1))  # with the seal that these numbers would have
        seal = torch.frombuffer(bytearray(_seal(path.stem, halves)), dtype=torch.uint8)
        safetensors.torch.save_file({"mean": halves[0], "std": halves[1], "seal": seal}, path)


@pytest.mark.parametrize("how", ["cut off", "empty", "garbage", "one byte", "foreign", "half precision"])
def test_a_damaged_file_is_a_miss_and_is_removed(tmp_path, how):
    cache = LatentCache(tmp_path, "vae", 0)
    cache.put(key(cache, 1), *entry(1))
    (path,) = files(tmp_path)
    damaged(path, how)
    assert LatentCache(tmp_path, "vae").get(key(cache, 1)) is None
    assert files(tmp_path) == []


def test_a_file_under_another_key_is_a_miss(tmp_path):
    cache = LatentCache(tmp_path, "vae", 0)
    cache.put(key(cache, 1), *entry(1))
    (path,) = files(tmp_path)
    other = tmp_path / key(cache, 2)[:2] / f"{key(cache, 2)}.safetensors"
    other.parent.mkdir(exist_ok=True)
    path.rename(other)
    assert cache.get(key(cache, 2)) is None


def test_a_full_disk_is_said_once_and_ends_nothing(tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    cache = LatentCache(tmp_path, "vae")
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            cache.put(key(cache, number), *entry(number))
    assert same(cache.get(key(cache, 1)), entry(1))
    assert len(caplog.records) == 1


def test_an_interrupted_write_leaves_no_entry(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("interrupted")

    cache = LatentCache(tmp_path, "vae", 0)
    monkeypatch.setattr(os, "replace", fail)
    cache.put(key(cache, 1), *entry(1))
    monkeypatch.undo()
    assert cache.get(key(cache, 1)) is None
    assert files(tmp_path) == []


def test_the_temporary_folder_dies_with_the_object():
    cache = LatentCache(None, "vae", 0)
    cache.put(key(cache, 1), *entry(1))
    folder = Path(cache._temporary.name)
    assert len(files(folder)) == 1
    del cache
    assert not folder.exists()


def test_nothing_is_written_while_memory_suffices_without_a_folder():
    cache = LatentCache(None, "vae")
    cache.put(key(cache, 1), *entry(1))
    assert cache._temporary is None


def test_what_the_caller_does_to_its_tensors_later_does_not_matter():
    cache = LatentCache(None, "vae")
    mean, std = entry(1)
    cache.put(key(cache, 1), mean, std)
    mean.zero_()
    assert same(cache.get(key(cache, 1)), entry(1))


def test_half_precision_is_kept_as_float32_of_the_same_value():
    cache = LatentCache(None, "vae")
    mean, std = (tensor.half() for tensor in entry(1))
    cache.put(key(cache, 1), mean, std)
    assert same(cache.get(key(cache, 1)), (mean.float(), std.float()))


def test_everything_that_the_encoding_depends_on_is_in_the_key():
    base = ("a", (64, 128), (0.5, 0.5), False, "vae")
    others = [
        ("b", (64, 128), (0.5, 0.5), False, "vae"),
        ("a", (128, 64), (0.5, 0.5), False, "vae"),
        ("a", (64, 128), (0.5, 0.25), False, "vae"),
        ("a", (64, 128), (0.5, 0.5), True, "vae"),
        ("a", (64, 128), (0.5, 0.5), False, "other"),
    ]
    assert len({variant_key(*values) for values in [base, *others]}) == 6


def test_reading_an_entry_from_disk_takes_about_a_millisecond(tmp_path):
    cache = LatentCache(tmp_path, "vae", 0)
    for number in range(50):
        cache.put(key(cache, number), *entry(number, side=64))
    begun = time.process_time()
    for number in range(50):
        cache.get(key(cache, number))
    assert (time.process_time() - begun) / 50 < 0.003
