"""Paths as people write and paste them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib_finetune.cli import _parser, settings_of
from lib_finetune.config import codec
from lib_finetune.config.places import with_absolute_places
from lib_finetune.config.settings import Settings
from lib_finetune.files import at_home, pasted_path


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my pics"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    "written",
    [
        "my pics",
        "./my pics",
        "my pics/",
        "~/my pics",
        " ~/my pics ",
        '"~/my pics"',
        "'~/my pics'",
        "“~/my pics”",
        '"my pics',
        "my pics\n",
        "\u202amy pics",
        "my%20pics",
        "my\\ pics",
        ' "my pics/" ',
        "<my pics>",
    ],
)
def test_a_path_is_read_as_it_is_pasted(place, written):
    assert at_home(written) == place


@pytest.mark.parametrize("prefix", ["file://", "file://localhost", "FILE://", "file:", '"file://'])
def test_an_address_of_a_file_is_a_path(place, prefix):
    written = prefix + str(place).replace(" ", "%20") + ('"' if prefix[0] == '"' else "")
    assert at_home(written) == place


def test_an_address_of_a_drive_is_a_path_of_windows():
    assert pasted_path("file:///C:/Users/me/my%20pics") == "C:/Users/me/my pics"
    assert pasted_path('"C:\\Users\\me\\my pics"') == "C:\\Users\\me\\my pics"
    assert pasted_path("file://server/share/my%20pics") == "//server/share/my pics"


@pytest.mark.parametrize("name", ["a%20b", "'a'", " a", "a ", '"a"', "a\\ b", "~a"])
def test_what_exists_by_the_letter_is_taken_by_the_letter(place, name):
    (place.parent / name).mkdir()
    assert at_home(name) == place.parent / name


@pytest.mark.parametrize("text", ["", " ", '""', "\n"])
def test_an_empty_text_is_not_the_folder_where_the_program_stands(place, text):
    assert at_home(text) == Path() and pasted_path(text) == ""


def test_a_link_is_not_followed(place):
    (place.parent / "link").symlink_to(place)
    assert at_home("link") == place.parent / "link"


def test_folders_of_the_settings_become_absolute_at_the_door(place, monkeypatch):
    settings = codec.with_values(Settings(), {"data.images": ' "my pics" ', "data.class_images": '""'}.items())
    came_in = with_absolute_places(settings)
    monkeypatch.chdir(place)
    assert (came_in.data.images, came_in.data.class_images) == (str(place), "") == (with_absolute_places(came_in).data.images, "")


def test_the_command_line_is_a_door(place):
    options = _parser().parse_args(["train", "lora", "--checkpoint", "x", "--images", "my pics", "--class-dir", "~/others"])
    settings = settings_of(options)
    assert (settings.data.images, settings.data.class_images) == (str(place), str(place.parent / "others"))


def test_files_of_the_settings_become_absolute_at_the_door_and_words_stay_words(place, monkeypatch):
    for name in ("start.safetensors", "a list.txt", "cat", "cat.pt"):
        (place.parent / name).write_text("")
    values = {"network.start": "start.safetensors", "embedding.template": '"a list.txt"', "embedding.init": "cat"}
    came_in = with_absolute_places(codec.with_values(Settings(), values.items()))
    monkeypatch.chdir(place)
    assert came_in.network.start == str(place.parent / "start.safetensors")
    assert (came_in.embedding.template, came_in.embedding.init) == (str(place.parent / "a list.txt"), "cat")
    monkeypatch.chdir(place.parent)
    for written in ("cat.pt", "./cat.pt", "~/cat.pt", " cat.pt "):
        assert with_absolute_places(codec.with_values(Settings(), [("embedding.init", written)])).embedding.init == str(
            place.parent / "cat.pt"
        )
    assert with_absolute_places(codec.with_values(Settings(), [("embedding.template", "style")])).embedding.template == "style"
