"""What a run that was killed leaves is named in its folder: half files are cleared, whole ones are taken over, lent ones go."""

import json
import os

import pytest

from lib_finetune.jobs.queue import Jobs
from lib_finetune.runs.folder import RunFolder
from lib_finetune.runs.write_journal import WriteJournal
from tests.fakes.runs import Bench, same, tensors

EACH = {"saving.state_every": "1", "network.dropout": "0.1"}


class Killed(BaseException):
    """Stands for a kill: nothing is tidied up after it."""


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.fixture
def kill(monkeypatch):
    """``kill(before=..., after=...)``: from the moment on when a file whose name matches was (not) put in its place, nothing on the disk changes."""

    def arm(patch, matches, *, after):
        real_replace, real_unlink, real_open, dead = os.replace, os.unlink, os.open, []

        def replace(source, target, *args, **named):
            if dead:
                raise Killed
            if matches(str(target)):
                if after:
                    real_replace(source, target)
                dead.append(1)
                raise Killed
            return real_replace(source, target, *args, **named)

        def gone(real):
            def call(*args, **named):
                if dead:
                    raise Killed
                return real(*args, **named)

            return call

        patch.setattr(os, "replace", replace)
        patch.setattr(os, "unlink", gone(real_unlink))
        patch.setattr(os, "open", gone(real_open))
        patch.setattr("pathlib.Path.unlink", gone(__import__("pathlib").Path.unlink))
        patch.setattr("lib_finetune.runs.write_journal.WriteJournal._add", gone(WriteJournal._add))

    return arm


def killed(bench, kill, monkeypatch, changes, matches, *, after):
    host = bench.host()
    with monkeypatch.context() as patched:
        kill(patched, matches, after=after)
        with pytest.raises(Killed):
            bench.run(changes, host=host)
    return host


def parts(bench):
    return list((bench.root / "host").rglob("*.part"))


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("method", ["lora", "pivot"])
def test_a_run_killed_around_its_result_makes_no_second_one(bench, kill, monkeypatch, after, method):
    more = {"method": "pivotal_tuning", "embedding.until": "1", "embedding.vectors": "2", "name": "zxqcat"} if method == "pivot" else {}
    changes, name = {**EACH, **more}, more.get("name", "cat")
    straight = bench.run(changes, host=bench.host("straight"))[0]
    host = killed(bench, kill, monkeypatch, changes, lambda path: path.endswith(f"Lora/{name}.safetensors"), after=after)
    assert parts(bench) or after
    result, _, _ = bench.run(changes, host=host)
    assert result.file.stem == name and same(tensors(result.file), tensors(straight.file))
    assert not parts(bench) and len(list(host.paths.lora.glob("*.safetensors"))) == 1


def test_a_foreign_file_of_the_same_name_is_left_alone(bench, kill, monkeypatch):
    host = killed(bench, kill, monkeypatch, EACH, lambda path: path.endswith("Lora/cat.safetensors"), after=True)
    file = host.paths.lora / "cat.safetensors"
    file.write_bytes(b"of another program")
    result, _, _ = bench.run(EACH, host=host)
    assert result.file.stem == "cat-2" and file.read_bytes() == b"of another program"


@pytest.mark.parametrize("after", [False, True])
def test_a_run_killed_around_a_snapshot_makes_no_second_one(bench, kill, monkeypatch, after):
    changes = {**EACH, "saving.every_steps": "2"}
    host = killed(bench, kill, monkeypatch, changes, lambda path: path.endswith("cat-000002.safetensors"), after=after)
    bench.run(changes, host=host)
    assert sorted(path.name for path in host.paths.lora.glob("*.safetensors")) == ["cat-000002.safetensors", "cat.safetensors"]
    assert not parts(bench)


@pytest.mark.parametrize("goes_on", [False, True])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("file", ["Lora/cat-000002.safetensors", "points.json", "previews.json"])
def test_a_lent_preview_does_not_stay_with_or_without_the_run(bench, kill, monkeypatch, file, after, goes_on):
    changes = {**EACH, "preview.enabled": "true", "preview.every": "2"}
    seen = []

    def matches(path):
        seen.append(path)
        lent = any("cat-000002" in each for each in seen)
        return path.endswith(file) and lent

    host = killed(bench, kill, monkeypatch, changes, matches, after=after)
    if goes_on:
        bench.run(changes, host=host)
    else:
        Jobs(host)
    left = [path.name for path in host.paths.lora.glob("*.safetensors")]
    assert left == (["cat.safetensors"] if goes_on else []) and not parts(bench)


def test_only_what_the_journal_names_and_a_run_can_have_written_is_removed(bench, tmp_path):
    host = bench.host()
    folder = RunFolder(host.paths.data / "runs" / "run")
    journal = WriteJournal(folder, host.paths.all)
    host.paths.lora.mkdir(parents=True, exist_ok=True)
    target = host.paths.lora / "cat.safetensors"
    ours, unnamed = (host.paths.lora / f".cat.safetensors.{digits}.part" for digits in ("0123abcd", "12345678"))
    outside, plain = tmp_path / ".cat.safetensors.0123abcd.part", host.paths.lora / "plain.safetensors"
    linked = host.paths.lora / ".cat.safetensors.99999999.part"
    for path in (ours, unnamed, outside, plain):
        path.write_bytes(b"x" * 10)
    linked.symlink_to(plain)
    for path in (ours, plain, linked):
        journal.begins(path, target)
    journal.begins(outside, tmp_path / "cat.safetensors")
    with folder.writes.open("a") as file:
        file.write('{"begins": 3}\n[]\n{"begins": "/\\u0000", "target": "x"}\n{"name": "torn')
    from lib_finetune.app.storage import Storage
    from lib_finetune.jobs import leftovers

    assert leftovers.size_outside(host.paths) == 10
    jobs = Jobs(host)
    assert not ours.exists() and all(path.exists() for path in (unnamed, outside, plain)) and linked.is_symlink()
    assert isinstance(Storage(jobs).parts(), list)


def test_storage_counts_what_lies_among_the_results(bench):
    from lib_finetune.app.storage import Storage

    host = bench.host()
    jobs = Jobs(host)
    before = next(part["size"] for part in Storage(jobs).parts() if part["name"] == "runs")
    half = host.paths.lora / ".cat.safetensors.0123abcd.part"
    half.parent.mkdir(parents=True, exist_ok=True)
    half.write_bytes(b"x" * 1000)
    folder = RunFolder(host.paths.data / "runs" / "run")
    WriteJournal(folder, host.paths.all).begins(half, host.paths.lora / "cat.safetensors")
    counted = next(part["size"] for part in Storage(jobs).parts() if part["name"] == "runs")
    assert counted == before + 1000 + folder.writes.stat().st_size
    assert Storage(jobs).empty("runs") >= 1000 and not half.exists()


def test_the_journal_stays_short(bench):
    _, _, host = bench.run(EACH)
    assert len((host.paths.data / "runs" / "run" / "writes.jsonl").read_text().splitlines()) < 100
    bench.run({**EACH, "saving.overwrite": "true"}, host=host)
    entries = [json.loads(line) for line in (host.paths.data / "runs" / "run" / "writes.jsonl").read_text().splitlines()]
    assert entries


def test_a_journal_of_many_lines_is_shortened_to_what_is_still_there(tmp_path):
    folder = RunFolder(tmp_path / "run")
    journal = WriteJournal(folder, [tmp_path])
    for number in range(1_000):
        temporary, target = tmp_path / "half.tmp", tmp_path / f"{number % 3}.safetensors"
        journal.begins(temporary, target)
        temporary.write_bytes(bytes(number % 7))
        journal.ready(temporary, target)
        os.replace(temporary, target)
        journal.ended(temporary)
    assert len(folder.writes.read_text().splitlines()) < 2_000
    again = WriteJournal(folder, [tmp_path])
    assert all(again.is_own(tmp_path / f"{number}.safetensors") for number in range(3)) and again.leftovers() == []
