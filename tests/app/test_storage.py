"""The size of Finetune's folder, and emptying it."""

import pytest

from lib_finetune.app import storage
from lib_finetune.errors import InputError


def fill(path, size):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))


def sizes(data):
    return {part.name: part.size for part in storage.parts(data) if part.size}


def test_parts_are_measured_and_emptied_one_by_one(tmp_path):
    fill(tmp_path / "cache/latents/a.bin", 1000)
    fill(tmp_path / "runs/one/state.safetensors", 500)
    fill(tmp_path / "runs/two/log.csv", 20)
    assert sizes(tmp_path) == {"cache": 1000, "runs": 520}
    assert storage.empty(tmp_path, "cache") == 1000
    assert storage.empty(tmp_path, "runs", {tmp_path / "runs/two"}) == 500
    assert sizes(tmp_path) == {"runs": 20}


def test_nothing_behind_a_link_is_deleted(tmp_path):
    fill(tmp_path / "elsewhere/picture.png", 10)
    (tmp_path / "data/datasets").mkdir(parents=True)
    (tmp_path / "data/datasets/link").symlink_to(tmp_path / "elsewhere")
    storage.empty(tmp_path / "data", "datasets")
    assert (tmp_path / "elsewhere/picture.png").exists() and not (tmp_path / "data/datasets/link").exists()


@pytest.mark.parametrize("name", ["..", "", "presets"])
def test_only_known_parts_are_emptied(tmp_path, name):
    with pytest.raises(InputError, match="no part"):
        storage.empty(tmp_path, name)
