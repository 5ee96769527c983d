"""Files are written whole or not at all, with the person's permissions, and reach the disk with their names; names that look the same are the same."""

import errno
import os
import stat
import subprocess
import sys

import pytest

from lib_finetune import files
from lib_finetune.errors import InputError, SaveError
from lib_finetune.export.lora_file import refuse_taken
from lib_finetune.files import safe_name, same_name, standing

COMPOSED, APART = "caf\u00e9", "cafe\u0301"
POSIX = pytest.mark.skipif(os.name != "posix", reason="permissions and folders that are flushed are POSIX's")


@POSIX
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664), (0o007, 0o660)])
def test_a_file_has_the_permissions_of_the_person(tmp_path, umask, mode):
    code = (
        "from pathlib import Path; from lib_finetune.files import write_atomically; import sys; write_atomically(Path(sys.argv[1]), b'x')"
    )
    before = os.umask(umask)
    try:
        subprocess.run([sys.executable, "-c", code, str(tmp_path / "new")], check=True)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == mode


@POSIX
def test_the_folder_is_flushed_after_the_file_is_in_place(tmp_path, monkeypatch):
    events = []
    replace, fsync = os.replace, os.fsync
    monkeypatch.setattr(os, "replace", lambda *paths: (events.append("replace"), replace(*paths)))

    def flush(handle):
        events.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", flush)
    files.write_atomically(tmp_path / "new", b"x")
    assert events == ["file", "replace", "folder"]


@POSIX
def test_a_folder_that_cannot_be_flushed_fails_nothing(tmp_path, monkeypatch):
    fsync = os.fsync

    def flush(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", flush)
    files.write_atomically(tmp_path / "new", b"x")
    assert (tmp_path / "new").read_bytes() == b"x"


def test_a_full_disk_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    target = tmp_path / "old"
    target.write_bytes(b"old")

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SaveError, match="No space left"):
        files.write_atomically(target, b"new")
    assert target.read_bytes() == b"old" and list(tmp_path.iterdir()) == [target]


def ignores_case(folder):
    (folder / "probe").write_text("")
    return (folder / "PROBE").exists()


def test_names_are_the_same_however_their_accents_are_made_up(tmp_path):
    assert same_name(COMPOSED, APART, tmp_path) and not same_name("cafe", APART, tmp_path)


def test_letter_case_counts_where_the_file_system_heeds_it(tmp_path):
    assert same_name("Cat", "cat", tmp_path) == ignores_case(tmp_path)


def test_letter_case_does_not_count_where_the_file_system_ignores_it(tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.exists", lambda self: True)
    monkeypatch.setattr("pathlib.Path.samefile", lambda self, other: True)
    assert same_name("Cat", "cat", tmp_path) and same_name(COMPOSED.upper(), APART, tmp_path)


def test_a_file_stands_under_a_name_that_looks_the_same(tmp_path):
    (tmp_path / f"{APART}.txt").write_text("")
    assert standing(tmp_path / f"{COMPOSED}.txt") is not None and standing(tmp_path / "cafe.txt") is None
    assert standing(tmp_path / "nowhere" / f"{COMPOSED}.txt") is None


def test_the_name_of_a_result_is_taken_by_one_that_looks_the_same(tmp_path):
    (tmp_path / f"{APART}.safetensors").write_text("")
    with pytest.raises(InputError, match="exists already"):
        refuse_taken(tmp_path / f"{COMPOSED}.safetensors", overwrite=False)


def test_accents_do_not_fall_out_of_a_name():
    assert safe_name(APART) == COMPOSED
