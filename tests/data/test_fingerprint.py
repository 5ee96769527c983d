from __future__ import annotations

import shutil

import pytest

from lib_finetune.data.fingerprint import fingerprint
from lib_finetune.data.scan import scan


@pytest.fixture
def folder(paint, tmp_path):
    for number in range(3):
        paint(f"set/{number}.png", seed=number, caption="a dog")
    return tmp_path / "set"


def print_of(folder) -> str:
    return fingerprint(scan(folder).pictures)


def test_the_same_pictures_have_the_same_fingerprint(folder):
    assert print_of(folder) == print_of(folder)


def test_a_moved_folder_has_the_same_fingerprint(folder, tmp_path):
    before = print_of(folder)
    shutil.move(folder, tmp_path / "moved")
    assert print_of(tmp_path / "moved") == before


@pytest.mark.parametrize("change", ["pixels", "caption", "no caption", "name", "fewer", "words"])
def test_a_change_changes_it(folder, paint, change):
    before = print_of(folder)
    if change == "pixels":
        paint("set/1.png", seed=9)
    elif change == "caption":
        (folder / "1.txt").write_text("a cat")
    elif change == "no caption":
        (folder / "1.txt").unlink()
    elif change == "name":
        (folder / "1.png").rename(folder / "9.png")
    elif change == "fewer":
        (folder / "1.png").unlink()
    elif change == "words":
        folder = folder.rename(folder.with_name("3_set"))
    assert print_of(folder) != before


def test_repeats_count(picture):
    assert fingerprint([picture(1, repeats=2)]) != fingerprint([picture(1, repeats=3)])


def test_class_pictures_count_apart(picture):
    assert fingerprint([picture(1)], [picture(2)]) != fingerprint([picture(1), picture(2)])
