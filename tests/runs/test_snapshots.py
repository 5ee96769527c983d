"""Files of the way: kept, asked for, lent to a preview, and what is left of them."""

import json
from types import SimpleNamespace

import pytest

from lib_finetune.assembly.run_plans import saving_plan
from lib_finetune.errors import HostError
from lib_finetune.runs.artifacts import Artifacts
from lib_finetune.runs.folder import RunFolder
from lib_finetune.runs.snapshots import ASKED, KEPT, LENT, Snapshots, withdraw
from lib_finetune.runs.write_journal import WriteJournal
from tests.fakes.host import FakeHost, Recorder
from tests.fakes.runs import settings


class Shop:
    """Snapshots on a fake host, whose files hold their step."""

    def __init__(self, root, keep=0):
        self.folder, self.host, self.sink = root / "run", FakeHost(root), Recorder()
        self.folder.mkdir(exist_ok=True)
        self.written, self.verified, self.refuses = [], [], False
        self.snapshots = Snapshots(RunFolder(self.folder), self.host.files, self.sink, self, keep)

    def write_snapshot(self, step):
        self.written.append(step)
        files = {"lora": self.folder / f"x-{step}.safetensors", "embedding": self.folder / f"w-{step}.safetensors"}
        for path in files.values():
            path.write_text(str(step))
            path.with_suffix(".json").write_text("{}")
        return files

    def is_snapshot(self, step, kind, path):
        return path == self.folder / f"{'x' if kind == 'lora' else 'w'}-{step}.safetensors"

    def verify(self, files):
        self.verified.append(sorted(files))
        if self.refuses:
            raise HostError("the loader refused it")

    def steps(self):
        assert [step for step, _ in self.sink.kept] == sorted(int(path.stem[2:]) for path in self.folder.glob("x-*.safetensors"))
        return [step for step, _ in self.sink.kept]


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


def test_a_lent_point_goes_with_its_card_when_the_next_is_lent_and_the_host_is_told(shop):
    first = shop.snapshots.lend(10).files
    assert shop.steps() == [10]
    shop.snapshots.lend(20)
    assert shop.steps() == [20] and shop.host.removed == list(first.values()) and not list(shop.folder.glob("*-10*"))
    shop.snapshots.return_lent()
    assert shop.steps() == [] and not list(shop.folder.glob("?-*"))


@pytest.mark.parametrize("why", [KEPT, ASKED])
def test_what_is_kept_is_lent_without_being_written_again_and_stays(shop, why):
    shop.snapshots.add(10, why)
    assert shop.snapshots.lend(10).why == why and shop.written == [10]
    shop.snapshots.lend(20)
    shop.snapshots.return_lent()
    assert shop.steps() == [10]


def test_what_is_lent_can_be_kept(shop):
    shop.snapshots.lend(10)
    shop.snapshots.add(10, ASKED)
    shop.snapshots.return_lent()
    assert shop.steps() == [10] and shop.written == [10]


def test_only_so_many_are_kept_but_never_fewer_of_those_asked_for(tmp_path):
    shop = Shop(tmp_path, keep=1)
    shop.snapshots.add(5, ASKED)
    for step in (10, 20, 30):
        shop.snapshots.add(step, KEPT)
    assert shop.steps() == [5, 30]


def test_a_run_that_goes_on_finds_its_points_and_takes_back_what_was_lent(tmp_path):
    first = Shop(tmp_path)
    first.snapshots.add(10, KEPT)
    gone = first.snapshots.add(20, KEPT)
    first.snapshots.lend(30)
    gone.files["lora"].unlink()
    second = Shop(tmp_path)
    assert second.steps() == [10] and second.snapshots.at(10).why == KEPT
    second.snapshots.add(10, KEPT)
    assert second.written == []


def test_a_point_of_before_is_verified_once_more_for_a_kill_may_have_left_it_without_its_card(tmp_path):
    Shop(tmp_path).snapshots.add(3, KEPT)
    later = Shop(tmp_path)
    later.snapshots.add(3, KEPT)
    later.snapshots.add(3, ASKED)
    assert later.written == [] and later.verified == [["embedding", "lora"]]


def test_a_lent_file_that_the_host_refuses_is_taken_back(shop):
    shop.refuses = True
    with pytest.raises(HostError):
        shop.snapshots.lend(10)
    shop.snapshots.return_lent()
    assert shop.steps() == []


def test_an_index_that_cannot_be_read_is_begun_anew(tmp_path):
    (tmp_path / "run").mkdir()
    RunFolder(tmp_path / "run").snapshots_index.write_text("[{")
    assert Shop(tmp_path).steps() == []


def test_a_file_that_cannot_be_removed_is_said(shop, monkeypatch):
    shop.snapshots.add(10, LENT)
    monkeypatch.setattr("pathlib.Path.unlink", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    shop.snapshots.return_lent()
    assert sum("was not removed" in line for line in shop.sink.lines) == 2


@pytest.mark.parametrize(
    "place", ["outside", "of another run", "of another step", "of another kind", "deeper", "by dots", "by a link", "relative"]
)
def test_a_file_that_is_not_of_this_run_is_never_removed(tmp_path, monkeypatch, place):
    """An index that names the person's file took it away, with the images' settings beside it, as soon as the run went on."""
    host = FakeHost(tmp_path)
    own = host.paths.lora / "cat-000040.safetensors"
    other = {
        "outside": tmp_path / "cat-000040.safetensors",
        "of another run": host.paths.lora / "dog-000040.safetensors",
        "of another step": host.paths.lora / "cat-000400.safetensors",
        "of another kind": host.paths.checkpoints / "cat-000040.safetensors",
        "deeper": host.paths.lora / "mine" / "cat-000040.safetensors",
        "by dots": host.paths.lora / ".." / "cat-000040.safetensors",
        "by a link": host.paths.lora / "link" / "cat-000040.safetensors",
        "relative": own.relative_to(tmp_path),
    }[place]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    host.paths.lora.mkdir(parents=True, exist_ok=True)
    (host.paths.lora / "link").symlink_to(tmp_path / "elsewhere")
    other.parent.mkdir(parents=True, exist_ok=True)
    beside = [other.with_suffix(suffix) for suffix in (".safetensors", ".json", ".yaml")]
    for path in beside:
        path.write_text("theirs")
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    rows = [{"step": 40, "why": LENT, "files": {"lora": str(other)}}, {"step": 30, "why": KEPT, "files": {"lora": str(other)}}]
    folder.snapshots_index.write_text(json.dumps(rows))
    artifacts = Artifacts(saving_plan(settings(tmp_path, {"name": "cat"})), SimpleNamespace(), None, host, sink := Recorder())
    snapshots = Snapshots(folder, host.files, sink, artifacts, keep=1)
    assert all(path.read_text() == "theirs" for path in beside) and not host.removed and not snapshots.steps
    assert str(other) in sink.lines[0] and "left alone" in sink.lines[0]


@pytest.mark.parametrize("beside", [[], [{"step": "4"}], [5], [None]])
@pytest.mark.parametrize("name", ["cat-000040.safetensors", "cat-000040-2.safetensors"])
def test_a_lent_file_of_this_run_is_taken_back_whatever_else_the_index_holds(tmp_path, name, beside):
    host, folder = FakeHost(tmp_path), RunFolder(tmp_path / "run")
    folder.path.mkdir()
    host.paths.lora.mkdir(parents=True, exist_ok=True)
    (own := host.paths.lora / name).write_text("ours")
    folder.snapshots_index.write_text(json.dumps([*beside, {"step": 40, "why": LENT, "files": {"lora": str(own)}}]))
    Snapshots(
        folder,
        host.files,
        Recorder(),
        Artifacts(saving_plan(settings(tmp_path, {"name": "cat"})), SimpleNamespace(), None, host, Recorder()),
        keep=0,
    )
    assert not own.exists() and host.removed == [own]


@pytest.mark.parametrize(
    "row",
    [
        {"step": "40", "why": LENT, "files": {"lora": "x"}},
        {"step": 4, "why": "?", "files": {"lora": "x"}},
        {"step": 4, "why": KEPT, "files": {}},
    ],
)
def test_an_index_of_other_values_is_begun_anew(tmp_path, row):
    (tmp_path / "run").mkdir()
    RunFolder(tmp_path / "run").snapshots_index.write_text(json.dumps([row]))
    assert Shop(tmp_path).steps() == []


@pytest.mark.parametrize("lent", [True, False])
def test_after_a_kill_what_no_index_holds_whole_goes_and_lent_files_go_unless_the_run_resumes(tmp_path, lent):
    folder = RunFolder(tmp_path / "run")
    journal = WriteJournal(folder, [tmp_path])

    def written(step, kind="lora", own=True):
        path = tmp_path / f"{kind}-{step}.safetensors"
        journal.plan("cat", step, {kind: path}, point=True)
        (temporary := tmp_path / "half.tmp").write_text(str(step))
        if own:
            journal.ready(temporary, path)
        temporary.replace(path)
        path.with_suffix(".json").write_text("{}")
        return path

    kept, asked, given, torn, unknown = (written(step) for step in range(1, 6))
    foreign = written(6, own=False)
    rows = [
        (1, KEPT, {"lora": kept}),
        (2, ASKED, {"lora": asked}),
        (3, LENT, {"lora": given}),
        (4, KEPT, {"lora": torn, "embedding": tmp_path / "gone"}),
    ]
    index = [{"step": step, "why": why, "files": {kind: str(path) for kind, path in files.items()}} for step, why, files in rows]
    folder.snapshots_index.write_text(json.dumps(index))
    withdraw(folder, journal, lent=lent)
    there = {path for path in (kept, asked, given, torn, unknown, foreign) if path.exists() and path.with_suffix(".json").exists()}
    assert there == {kept, asked, foreign} | (set() if lent else {given})
