"""Damaged files of a run are called by their name, and written anew where a saved state has a copy."""

import time

import pytest
import torch

from lib_finetune.cli import train_on
from lib_finetune.errors import CheckpointError, InputError
from lib_finetune.export import embedding_file
from lib_finetune.jobs.queue import Jobs
from lib_finetune.model import checkpoint_reader
from lib_finetune.runs.folder import CHECKPOINT, NEXT, SETTINGS, STATE, RunFolder
from lib_finetune.text import tokenizer
from lib_finetune.training import state
from tests.fakes.host import Recorder
from tests.fakes.runs import Bench, same, settings, tensors

CHANGES = {"saving.state_every": "1", "training.steps": "5", "network.dropout": "0.1"}
DAMAGE = {
    "empty": lambda content: b"",
    "zeros": lambda content: b"\0" * len(content),
    "torn": lambda content: content[: len(content) // 2],
    "no utf-8": lambda content: b"\xff" + content,
    "nested": lambda content: b"[" * 100_000,
}


@pytest.fixture
def stopped(tmp_path):
    """A run that was stopped after three steps: (bench, host, its folder)."""
    bench = Bench(tmp_path)
    host = bench.host()
    bench.run(CHANGES, host=host, recorder=Recorder(stop_at=3, discard=True))
    folder = host.paths.data / "runs" / "run"
    RunFolder(folder).latest_state().replace(folder / STATE)
    (folder / NEXT).unlink(missing_ok=True)
    return bench, host, folder


@pytest.mark.parametrize("damage", [*DAMAGE, "gone"])
@pytest.mark.parametrize("name", [SETTINGS, CHECKPOINT])
def test_small_files_are_written_anew_from_the_state(stopped, name, damage):
    bench, host, folder = stopped
    before = (folder / name).read_bytes()
    straight = bench.run(CHANGES, host=bench.host("straight"))[0]
    if damage == "gone":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(DAMAGE[damage](before))
    recorder = Recorder()
    result, _, _ = bench.run(CHANGES, host=host, recorder=recorder)
    assert any(f"{name} of this run" in line and "written anew" in line for line in recorder.lines)
    assert same(tensors(result.file), tensors(straight.file))


@pytest.mark.parametrize("damage", ["empty", "torn"])
def test_a_run_whose_settings_are_damaged_is_found_by_its_name(stopped, damage):
    bench, host, folder = stopped
    (folder / SETTINGS).write_bytes(DAMAGE[damage]((folder / SETTINGS).read_bytes()))
    assert train_on(host, settings(bench.images, CHANGES), resume=True).outcome == "done"


@pytest.mark.parametrize("damage", ["empty", "torn", "zeros"])
def test_a_damaged_newer_state_gives_way_to_the_last_good_one(stopped, damage):
    bench, host, folder = stopped
    straight = bench.run(CHANGES, host=bench.host("straight"))[0]
    content = (folder / STATE).read_bytes()
    (folder / NEXT).write_bytes(DAMAGE[damage](content))
    recorder = Recorder()
    result, _, _ = bench.run(CHANGES, host=host, recorder=recorder)
    assert any(NEXT in line and "resumes from" in line for line in recorder.lines)
    assert same(tensors(result.file), tensors(straight.file))


def test_a_header_that_was_changed_is_no_state(stopped):
    folder = stopped[2]
    content = (folder / STATE).read_bytes()
    changed = content.replace(b'[\\"step\\", 3]', b'[\\"step\\", 4]')
    assert changed != content
    (folder / STATE).write_bytes(changed)
    with pytest.raises(InputError, match="cannot be read"):
        state.outline(folder / STATE)


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_a_state_that_alone_is_damaged_is_named(stopped, damage):
    bench, host, folder = stopped
    (folder / STATE).write_bytes(DAMAGE[damage]((folder / STATE).read_bytes()))
    with pytest.raises(InputError, match=STATE):
        bench.run(CHANGES, host=host)


def test_a_job_whose_settings_are_damaged_lives_when_a_state_has_them(tmp_path):
    bench = Bench(tmp_path)
    jobs = Jobs(bench.host())
    job = jobs.submit(settings(bench.images, {**CHANGES, "training.steps": "400"}))
    while not (job.folder / STATE).exists():
        assert not job.ended, job.message
    job.control.suspend()
    while not job.ended:
        time.sleep(0.02)  # a loop without it takes the interpreter from the run
    assert job.state == "interrupted" and "can be resumed" in job.message
    (job.folder / SETTINGS).write_bytes(b"{")
    del jobs
    from lib_finetune.jobs.restored import restored

    revived = restored(bench.host().paths.data)
    assert [(each.state, each.settings.name) for each in revived] == [("interrupted", "cat")]


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "tokenizer_config.json", "digests.json"])
@pytest.mark.parametrize("damage", ["empty", "torn", "zeros", "gone"])
def test_a_damaged_tokenizer_is_written_anew(tmp_path, name, damage):
    folder = tmp_path / "tokenizer"
    ids = tokenizer.load(folder)("a cat").input_ids
    path = folder / name
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(DAMAGE[damage](path.read_bytes()))
    assert tokenizer.load(folder)("a cat").input_ids == ids


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_found_at_loading(tmp_path, value):
    from safetensors.torch import save_file

    from tests.fakes.host import tiny_tensors

    spoilt = tiny_tensors()
    name = sorted(spoilt)[5]
    spoilt[name].view(-1)[0] = value
    save_file(spoilt, tmp_path / "spoilt.safetensors")
    with pytest.raises(CheckpointError, match=f"spoilt.safetensors is damaged: {name}"):
        checkpoint_reader.read(tmp_path / "spoilt.safetensors", torch.float32, torch.device("cpu"))
    save_file({"emb_params": torch.full((2, 8), value)}, tmp_path / "word.safetensors")
    with pytest.raises(CheckpointError, match=r"word.safetensors is damaged: it holds NaN"):
        embedding_file.read(tmp_path / "word.safetensors")


@pytest.mark.parametrize("part", ["model.diffusion_model.", "first_stage_model.", "cond_stage_model."])
def test_a_checkpoint_with_nan_that_is_loaded_already_is_named_before_the_first_step(tmp_path, part):
    bench = Bench(tmp_path)
    host = bench.host()
    name = next(name for name in host.held.tensors if name.startswith(part))
    host.held.tensors[name].view(-1)[0] = float("nan")
    with pytest.raises(CheckpointError, match=f"tiny is damaged: {name}"):
        bench.run(host=host)
