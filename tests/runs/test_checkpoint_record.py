"""A run continues on the file that it began on, and on no other that lies in its place."""

import json
import os
import time

import pytest

from lib_finetune.errors import InputError
from lib_finetune.model import checkpoint_reader
from lib_finetune.ports.checkpoint import CheckpointInfo
from lib_finetune.runs import checkpoint_record
from lib_finetune.runs.folder import RunFolder
from tests.fakes.host import Recorder
from tests.fakes.runs import Bench


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "base.safetensors"
    path.write_bytes(b"the weights")
    os.utime(path, ns=(10**18, 10**18))
    return path


def begun(file, folder):
    checkpoint_record.begin(CheckpointInfo("base", file, None, None, None), folder)
    for _ in range(200):
        if checkpoint_record.stored(folder).sha256:
            break
        time.sleep(0.01)
    return checkpoint_record.stored(folder)


def test_size_time_and_content_are_recorded(file, folder):
    info = begun(file, folder)
    assert (info.size, info.modified_ns, info.sha256) == (11, 10**18, checkpoint_reader.sha256(file))


def test_another_content_is_refused_with_both_hashes(file, folder):
    info = begun(file, folder)
    file.write_bytes(b"THE WEIGHTS")
    with pytest.raises(InputError, match="another file") as caught:
        checkpoint_record.check_unchanged(info, folder)
    assert info.sha256[:10] in str(caught.value) and checkpoint_reader.sha256(file)[:10] in str(caught.value)


def test_a_touched_file_goes_on_and_its_new_time_is_recorded(file, folder):
    info = begun(file, folder)
    os.utime(file, ns=(2 * 10**18, 2 * 10**18))
    checkpoint_record.check_unchanged(info, folder)
    assert checkpoint_record.stored(folder).modified_ns == 2 * 10**18


@pytest.mark.parametrize(("content", "refused"), [(b"the weights, and more", True), (b"THE WEIGHTS", False)])
def test_before_the_hash_is_known_only_the_size_tells(file, folder, content, refused):
    info = begun(file, folder)
    unhashed = CheckpointInfo.from_json(json.dumps({**json.loads(info.to_json()), "sha256": None}))
    file.write_bytes(content)
    lines = []
    if refused:
        with pytest.raises(InputError, match="another file"):
            checkpoint_record.check_unchanged(unhashed, folder, lines.append)
    else:
        checkpoint_record.check_unchanged(unhashed, folder, lines.append)
        assert "cannot be compared" in lines[0]


def test_a_run_of_before_says_that_it_cannot_be_told(file, folder):
    old = CheckpointInfo.from_json(json.dumps({"name": "base", "path": str(file), "sha256": None, "short_hash": None, "vae": None}))
    lines = []
    checkpoint_record.check_unchanged(old, folder, lines.append)
    assert "cannot be told" in lines[0]


def test_a_damaged_record_is_said(folder):
    folder.path.mkdir()
    folder.checkpoint_file.write_text("{")
    with pytest.raises(InputError, match="Start a new run"):
        checkpoint_record.stored(folder)


def test_a_run_refuses_to_continue_on_a_replaced_file(tmp_path, file):
    bench = Bench(tmp_path)
    host = bench.host()
    host.held.info = CheckpointInfo("base", file, None, None, None)
    bench.run(host=host, recorder=Recorder(stop_at=2))
    begun_on = checkpoint_record.stored(RunFolder(host.paths.data / "runs" / "run"))
    assert begun_on.size == 11
    file.write_bytes(b"other, and longer")
    with pytest.raises(InputError, match="another file"):
        bench.run(host=host)
    file.write_bytes(b"the weights")
    assert bench.run(host=host)[0].outcome == "done"


def test_a_file_that_is_replaced_while_the_run_waits_for_it_ends_the_run(tmp_path, file):
    bench = Bench(tmp_path)
    host = bench.host()
    host.held.info = CheckpointInfo("base", file, None, None, None)

    class Switching(Recorder):
        def steps(self, report):
            super().steps(report)
            if report.step >= 2:
                file.write_bytes(b"other, and longer")
                host.load_other("other")
                host.waiting = lambda: True  # who chooses another checkpoint waits for the host

    with pytest.raises(InputError, match="another file"):
        bench.run({"training.steps": "40"}, host=host, recorder=Switching())


def test_a_run_refuses_to_continue_as_a_model_of_another_prediction(tmp_path, file):
    """The record's prediction trained on, while the previews were painted by the other one."""
    bench = Bench(tmp_path)
    host = bench.host()
    host.held.info = CheckpointInfo("base", file, None, None, None, "v_prediction")
    bench.run(host=host, recorder=Recorder(stop_at=2))
    host.held.info = CheckpointInfo("base", file, None, None, None)
    with pytest.raises(InputError, match="--prediction v_prediction"):
        bench.run(host=host)
    host.held.info = CheckpointInfo("base", file, None, None, None, "v_prediction")
    assert bench.run(host=host)[0].outcome == "done"


def test_a_record_that_is_gone_is_written_anew_from_the_state(tmp_path, file):
    bench = Bench(tmp_path)
    host = bench.host()
    host.held.info = CheckpointInfo("base", file, None, None, None)
    bench.run(host=host, recorder=Recorder(stop_at=2))
    RunFolder(host.paths.data / "runs" / "run").checkpoint_file.unlink()
    result, recorder, _ = bench.run(host=host)
    assert result.outcome == "done" and any("is missing" in line and "written anew from the saved state" in line for line in recorder.lines)
