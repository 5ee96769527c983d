"""Pipes, sockets and devices are named and refused where people name files, without being opened: a reader of them may wait for ever."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from lib_finetune import regular_files, text_files
from lib_finetune.app.settings_files import imported, of_result
from lib_finetune.cli import refuse_wrong_input
from lib_finetune.config import codec
from lib_finetune.config.settings import Settings
from lib_finetune.data import templates
from lib_finetune.data.caption_file import save_caption
from lib_finetune.data.images import load_rgb
from lib_finetune.data.look import look_at
from lib_finetune.data.scan import examined, scan
from lib_finetune.errors import InputError
from lib_finetune.export import embedding_file, lora_file
from lib_finetune.model import checkpoint_reader, prediction

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows has no pipes among files")
_WAIT_S = 20.0
_NAMED = "named pipe|socket|device"


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's path may have 107 bytes only
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


@pytest.fixture(params=[pipe, endless, listening], ids=["pipe", "device", "socket"])
def special(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Path]:
    """Makes a file of this kind."""

    def make(name: str) -> Path:
        request.param(tmp_path / name)
        return tmp_path / name

    return make


def in_time(work: Callable[[], Any]) -> Any:
    """What it returns or raises, if it ends in time."""
    answers: list[Any] = []

    def run() -> None:
        try:
            answers.append(work())
        except Exception as error:  # noqa: BLE001  raised again below
            answers.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(_WAIT_S)
    assert not thread.is_alive(), "it waits for what never comes"
    if isinstance(answers[0], Exception):
        raise answers[0]
    return answers[0]


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("a.txt", lambda path: templates.load(str(path), "embedding.template")),
        ("a.json", codec.load),
        ("a.toml", codec.load),
        ("a.json", lambda path: imported(path, Settings())),
        ("a.safetensors", lambda path: of_result(path, path.parent)),
        ("a.ckpt", lambda path: of_result(path, path.parent)),
        ("a.png", load_rgb),
        ("a.safetensors", lambda path: checkpoint_reader.read(path, torch.float32, torch.device("cpu"))),
        ("a.ckpt", lambda path: checkpoint_reader.read(path, torch.float32, torch.device("cpu"))),
        ("a.ckpt", checkpoint_reader.names),
        ("a.safetensors", checkpoint_reader.metadata),
        ("a.safetensors", lambda path: lora_file.read(path, "network.start")),
        ("a.pt", embedding_file.read),
        ("a.png", embedding_file.read),
        ("a.ckpt", lambda path: refuse_wrong_input(Settings(), path)),
    ],
)
def test_what_a_person_names_is_refused_by_its_kind(special, name, read):
    path = special(name)
    with pytest.raises(InputError, match=_NAMED) as caught:
        in_time(lambda: read(path))
    assert name in str(caught.value)


def test_a_text_is_not_read_from_it(special):
    path = special("a.txt")
    with pytest.raises(OSError, match=_NAMED):
        in_time(lambda: text_files.read(path))


def test_a_picture_is_not_looked_at(special):
    path = special("a.png")
    assert any(word in in_time(lambda: examined(path)) for word in _NAMED.split("|"))
    assert in_time(lambda: look_at(path)) is None


def test_a_folder_is_read_without_it_and_a_line_says_so(special, tmp_path):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (64, 64)).save(tmp_path / name)
    for name in ("a.txt", "c.png", "metadata.jsonl", "b.caption"):
        special(name)
    report = in_time(lambda: scan(tmp_path))
    assert [(picture.name, picture.caption) for picture in report.pictures] == [("a.png", None), ("b.png", None)]
    assert sorted(path.name for path, _ in report.broken) == ["a.txt", "b.caption", "c.png", "metadata.jsonl"]
    assert all(
        any(name in line and "not a regular file" in line for line in report.lines()) for name in ("a.txt", "c.png", "metadata.jsonl")
    )


def test_a_caption_is_written_beside_it(special, tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "a.jpg")
    path = special("a.txt")
    assert in_time(lambda: save_caption(tmp_path / "a.png", "a cat", tmp_path)) == tmp_path / "a.png.txt"
    assert in_time(lambda: save_caption(tmp_path / "a.png", "", tmp_path)) is None and regular_files.fault(path)


def test_a_configuration_beside_a_checkpoint_is_passed_over(special, tmp_path):
    special("a.yaml")
    checkpoint = tmp_path / "a.safetensors"
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(1)}, str(checkpoint))
    assert in_time(lambda: prediction.of_checkpoint(checkpoint, None)) == "epsilon"


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    return path


def test_a_regular_file_a_link_to_one_a_folder_and_nothing_are_no_fault(plain, tmp_path):
    (tmp_path / "link").symlink_to(plain)
    assert [regular_files.fault(path) for path in (plain, tmp_path / "link", tmp_path, tmp_path / "no", Path("a\0b"))] == [None] * 5
    assert regular_files.read(tmp_path / "link") == b"abc" and regular_files.read(plain, 1) == b"ab"
