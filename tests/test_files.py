"""Files are written whole or not at all, with the person's permissions, and reach the disk with their names."""

import errno
import os
import stat
import subprocess
import sys

import pytest

from lib_finetune import files
from lib_finetune.errors import SaveError

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
