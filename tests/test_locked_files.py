"""A file that another program has open: tried again for two seconds, then said; nothing is lost."""

import errno
import os

import pytest

from lib_finetune import locked_files
from lib_finetune.errors import SaveError
from lib_finetune.files import write_atomically
from lib_finetune.locked_files import put_in_place


@pytest.fixture
def windows(monkeypatch):
    """Replacing fails so often as the list says, as Windows does with a file that is open."""
    left = []
    real = os.replace

    def replace(source, target):
        if left and left.pop():
            raise PermissionError(errno.EACCES, "Access is denied", str(target))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(locked_files, "LOCKS", True)
    monkeypatch.setattr(locked_files, "PATIENCE_S", 0.3)
    return left


def test_a_file_that_is_let_go_in_time_is_replaced(windows, tmp_path):
    windows += [True, True, True]
    (tmp_path / "cat.json").write_text("old")
    write_atomically(tmp_path / "cat.json", b"new")
    assert (tmp_path / "cat.json").read_text() == "new" and windows == []


def test_a_file_that_stays_open_is_kept_and_said_with_who_may_have_it(windows, tmp_path):
    windows += [True] * 1000
    (tmp_path / "cat.png").write_text("old")
    with pytest.raises(SaveError) as refused:
        write_atomically(tmp_path / "cat.png", b"new")
    message = str(refused.value)
    assert "cat.png could not be written" in message and "perhaps an image viewer or an antivirus program" in message
    assert (tmp_path / "cat.png").read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["cat.png"]


def test_elsewhere_a_folder_without_rights_is_said_at_once(windows, tmp_path, monkeypatch):
    monkeypatch.setattr(locked_files, "LOCKS", False)
    windows += [True]
    (tmp_path / "new").write_text("new")
    with pytest.raises(PermissionError, match="Access is denied"):
        put_in_place(tmp_path / "new", tmp_path / "cat.json")
    assert windows == []


def test_another_error_is_not_tried_again(tmp_path, windows):
    with pytest.raises(FileNotFoundError):
        put_in_place(tmp_path / "none", tmp_path / "cat.json")
