"""Files of the way: kept, asked for, lent to a preview, and what is left of them."""

import pytest

from lib_finetune.errors import HostError
from lib_finetune.runs.snapshots import ASKED, INDEX, KEPT, LENT, Points
from tests.fakes.host import FakeHost, Recorder


class Desk:
    """Points on a fake host, whose files hold their step."""

    def __init__(self, root, keep=0):
        self.folder, self.host, self.sink = root / "run", FakeHost(root), Recorder()
        self.folder.mkdir(exist_ok=True)
        self.written, self.refuses = [], False
        self.points = Points(self.folder, self.host, self.sink, self.write, self.verify, keep)

    def write(self, step):
        self.written.append(step)
        files = {"lora": self.folder / f"x-{step}.safetensors", "embedding": self.folder / f"w-{step}.safetensors"}
        for path in files.values():
            path.write_text(str(step))
            path.with_suffix(".json").write_text("{}")
        return files

    def verify(self, files):
        if self.refuses:
            raise HostError("the loader refused it")

    def steps(self):
        assert [step for step, _ in self.sink.kept] == sorted(int(path.stem[2:]) for path in self.folder.glob("x-*.safetensors"))
        return [step for step, _ in self.sink.kept]


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def test_a_lent_point_goes_with_its_card_when_the_next_is_lent_and_the_host_is_told(desk):
    first = desk.points.lend(10).files
    assert desk.steps() == [10]
    desk.points.lend(20)
    assert desk.steps() == [20] and desk.host.removed == list(first.values()) and not list(desk.folder.glob("*-10*"))
    desk.points.return_lent()
    assert desk.steps() == [] and not list(desk.folder.glob("?-*"))


@pytest.mark.parametrize("why", [KEPT, ASKED])
def test_what_is_kept_is_lent_without_being_written_again_and_stays(desk, why):
    desk.points.add(10, why)
    assert desk.points.lend(10).why == why and desk.written == [10]
    desk.points.lend(20)
    desk.points.return_lent()
    assert desk.steps() == [10]


def test_what_is_lent_can_be_kept(desk):
    desk.points.lend(10)
    desk.points.add(10, ASKED)
    desk.points.return_lent()
    assert desk.steps() == [10] and desk.written == [10]


def test_only_so_many_are_kept_but_never_fewer_of_those_asked_for(tmp_path):
    desk = Desk(tmp_path, keep=1)
    desk.points.add(5, ASKED)
    for step in (10, 20, 30):
        desk.points.add(step, KEPT)
    assert desk.steps() == [5, 30]


def test_a_run_that_goes_on_finds_its_points_and_takes_back_what_was_lent(tmp_path):
    first = Desk(tmp_path)
    first.points.add(10, KEPT)
    gone = first.points.add(20, KEPT)
    first.points.lend(30)
    gone.files["lora"].unlink()
    second = Desk(tmp_path)
    assert second.steps() == [10] and second.points.at(10).why == KEPT
    second.points.add(10, KEPT)
    assert second.written == []


def test_a_lent_file_that_the_host_refuses_is_taken_back(desk):
    desk.refuses = True
    with pytest.raises(HostError):
        desk.points.lend(10)
    desk.points.return_lent()
    assert desk.steps() == []


def test_an_index_that_cannot_be_read_is_begun_anew(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / INDEX).write_text("[{")
    assert Desk(tmp_path).steps() == []


def test_a_file_that_cannot_be_removed_is_said(desk, monkeypatch):
    desk.points.add(10, LENT)
    monkeypatch.setattr("pathlib.Path.unlink", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    desk.points.return_lent()
    assert sum("was not removed" in line for line in desk.sink.lines) == 2
