"""Folders and files that this program may not read or write: a sentence with the place, no traceback, no half file.

The commands run in a child that has given up root, one after the other; where root cannot be given up the tests fail, for they would see nothing.
"""

import json
import os
import subprocess
import sys

import pytest

from tests.faults import driver
from tests.faults.unprivileged import foreign

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX"),
    pytest.mark.slow,
    pytest.mark.timeout(600),
]


def _locked(path, mode=0):
    path.chmod(mode)
    return path


def _file(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _folder(path):
    path.mkdir(parents=True)
    return path


def _with(arguments, flag, value):
    place = arguments.index(flag) + 1
    return [*arguments[:place], str(value), *arguments[place + 1 :]]


def _lora(world, out, *more):
    return driver.command(world, "lora", out, *more)


def _image_of(world):
    return ["generate", "--checkpoint", str(world / "tiny.safetensors"), "--prompt", "a", "--steps", "1"]


def _cases():
    """name → (world, folder of its own) → (arguments, exit code, what the message says)."""
    return {
        "images folder that may not be listed": lambda w, f: (
            _with(_lora(w, f / "o"), "--images", _locked(_folder(f / "shut"))), 2, ["data.images", "shut", "Permission denied"],
        ),
        "images in a folder that may not be entered": lambda w, f: (
            _with(_lora(w, f / "o"), "--images", _locked(_folder(f / "shut")) / "pictures"), 2, ["data.images", "shut"],
        ),
        "checkpoint that may not be read": lambda w, f: (
            _with(_lora(w, f / "o"), "--checkpoint", _locked(_file(f / "x.safetensors"))), 2, ["x.safetensors cannot be read (Permission denied)"],
        ),
        "checkpoint in a folder that may not be entered": lambda w, f: (
            _with(_lora(w, f / "o"), "--checkpoint", _locked(_folder(f / "shut")) / "x.safetensors"), 2, ["x.safetensors", "Permission denied"],
        ),
        "results folder that is read-only": lambda w, f: (
            _lora(w, _locked(_folder(f / "o"), 0o555)), 1, ["cannot be made: Permission denied. Check its permissions"],
        ),
        "results folder that may not be entered": lambda w, f: (
            _lora(w, _locked(_folder(f / "o"))), 1, ["cannot be made: Permission denied. Check its permissions"],
        ),
        "results folder of another user": lambda w, f: (
            _lora(w, foreign(f / "o")), 1, ["cannot be made: Permission denied. Check its permissions"],
        ),
        "Lora folder that is read-only": lambda w, f: (
            _lora(w, _locked(_folder(f / "o" / "models" / "Lora"), 0o555).parents[1]), 2, ["name: ", "Lora is not writable"],
        ),
        "Lora folder that may not be entered": lambda w, f: (
            _lora(w, _locked(_folder(f / "o" / "models" / "Lora")).parents[1]), 2, ["name: ", "Lora is not writable"],
        ),
        "Lora folder of another user": lambda w, f: (
            _lora(w, foreign(_folder(f / "o" / "models" / "Lora")).parents[1]) if os.geteuid() == 0 else _lora(w, f / "o", "--steps", "0"), 2,
            ["name: ", "Lora is not writable"] if os.geteuid() == 0 else ["training.steps"],
        ),
        "models folder that may not be entered": lambda w, f: (
            _lora(w, _locked(_folder(f / "o" / "models")).parent), 2, ["name: ", "models is not writable"],
        ),
        "embeddings that are read-only": lambda w, f: (
            driver.command(w, "textual-inversion", _locked(_folder(f / "o" / "embeddings"), 0o555).parent), 2, ["embeddings is not writable"],
        ),
        "runs folder that is read-only": lambda w, f: (
            _lora(w, _locked(_folder(f / "o" / ".finetune" / "runs"), 0o555).parents[1]), 1, ["runs", "cannot be made: Permission denied"],
        ),
        "our own folder that may not be entered": lambda w, f: (
            _lora(w, _locked(_folder(f / "o" / ".finetune")).parent), 1, [".finetune", "cannot be made: Permission denied"],
        ),
        "settings file": lambda w, f: (
            _lora(w, f / "o", "--config", str(_locked(_file(f / "c.toml")))), 2, ["c.toml cannot be read: Permission denied."],
        ),
        "settings file in a folder that may not be entered": lambda w, f: (
            _lora(w, f / "o", "--config", str(_locked(_folder(f / "shut")) / "c.toml")), 2, ["c.toml cannot be read: Permission denied."],
        ),
        "template": lambda w, f: (
            driver.command(w, "textual-inversion", f / "o", "--template", str(_locked(_file(f / "t.txt", b"a [name]")))), 2,
            ["embedding.template", "(Permission denied)"],
        ),
        "embedding to begin with": lambda w, f: (
            driver.command(w, "textual-inversion", f / "o", "--init-words", str(_locked(_file(f / "i.pt")))), 2,
            ["embedding.init: i.pt cannot be read (Permission denied)"],
        ),
        "embedding in a folder that may not be entered": lambda w, f: (
            driver.command(w, "textual-inversion", f / "o", "--init-words", str(_locked(_folder(f / "shut")) / "i.pt")), 2,
            ["embedding.init", "Permission denied"],
        ),
        "LoRA to begin with": lambda w, f: (
            _lora(w, f / "o", "--set", f"network.start={_locked(_file(f / 'l.safetensors'))}"), 2, ["l.safetensors cannot be read (Permission denied)"],
        ),
        "folder of class images": lambda w, f: (
            driver.command(w, "dreambooth", f / "o", "--class-dir", str(_locked(_folder(f / "cls")))), 2, ["data.class_images", "cls", "Permission denied"],
        ),
        "LoRA for an image": lambda w, f: (
            [*_image_of(w), "--lora", f"{_locked(_file(f / 'l.safetensors'))}:1", "--out", str(f / "g.png")],
            2, ["l.safetensors cannot be read (Permission denied)"],
        ),
        "image into a read-only folder": lambda w, f: (
            [*_image_of(w), "--out", str(_locked(_folder(f / "ro"), 0o555) / "g.png")],
            1, ["could not be written: Permission denied"],
        ),
        "the page's checkpoint": lambda w, f: (
            ["ui", "--checkpoint", str(_locked(_folder(f / "shut")) / "x.safetensors"), "--output-root", str(f / "o")], (1, 2), ["x.safetensors", "ermission"],
        ),
    }  # fmt: skip


NAMES = list(_cases())


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """name → (folder, exit code, what was printed, expected code, expected words): of all cases, for a child costs ten seconds to start."""
    world = driver.make_world(tmp_path_factory.mktemp("permissions"))
    world.chmod(0o755)
    prepared = {
        name: (world / f"case-{place}", *make(world, world / f"case-{place}")) for place, (name, make) in enumerate(_cases().items())
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.unprivileged"],
        input=json.dumps([arguments for _, arguments, _, _ in prepared.values()]), capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    for path in sorted(world.rglob("case-*")):
        for inner in (path, *path.rglob("*")):
            if inner.is_dir():
                inner.chmod(0o755)
    assert done.returncode == 0, done.stderr  # also where root cannot be given up
    answers = json.loads(done.stdout.splitlines()[-1])
    return {
        name: (folder, *answer, code, words) for (name, (folder, _, code, words)), answer in zip(prepared.items(), answers, strict=True)
    }


@pytest.mark.parametrize("name", NAMES)
def test_what_may_not_be_read_or_written_is_said_in_a_sentence(outcomes, name):
    folder, code, printed, expected, words = outcomes[name]
    assert "Traceback" not in printed and "Errno" not in printed and "No such file" not in printed, printed
    assert code == expected or (isinstance(expected, tuple) and code in expected), printed
    assert all(word in printed for word in words), printed
    assert not driver.half_files(folder)


def test_the_child_is_bound_by_permissions(tmp_path):
    secret = _locked(_file(tmp_path / "secret"))
    code = f"from tests.faults.unprivileged import give_up_root; give_up_root(); open({str(secret)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and "PermissionError" in done.stderr
