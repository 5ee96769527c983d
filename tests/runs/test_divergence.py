"""Runs that go wrong: what is good is kept, what came after it goes, and nothing that was good before is written over."""

import shutil
import time

import pytest
import torch

from lib_finetune.errors import DivergedError, InputError
from lib_finetune.jobs.run_folders import unfinished
from lib_finetune.runs import saved_states
from lib_finetune.runs.folder import FINAL, NEXT, STATE, RunFolder
from lib_finetune.training import curve, state
from lib_finetune.training.loop import Trainer
from lib_finetune.training.methods.dreambooth import DreamBoothMethod
from lib_finetune.training.methods.lora import LoraMethod
from lib_finetune.training.methods.textual_inversion import TextualInversionMethod
from tests.fakes.host import Recorder
from tests.fakes.runs import Bench, metadata, same, tensors

NAN = float("nan")
FLAT = {"optimizer.schedule": "constant", "optimizer.warmup": "0"}
METHODS = {
    "lora": {},
    "lora, average": {"training.ema_decay": "0.9"},
    "word": {"method": "textual_inversion", "embedding.vectors": "2"},
    "pivot": {"method": "pivotal_tuning", "embedding.until": "1", "embedding.vectors": "2"},
    "pivot, average": {"method": "pivotal_tuning", "embedding.until": "1", "embedding.vectors": "2", "training.ema_decay": "0.9"},
    "whole": {"method": "dreambooth", "data.trigger": "sks"},
    "whole, average": {"method": "dreambooth", "data.trigger": "sks", "training.ema_decay": "0.9"},
}


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path, pictures=4)


@pytest.fixture
def wrong(monkeypatch):
    """``wrong[step]`` is added to the loss of a step, NaN with its gradient, and ``wrong["on5"]`` to all from step 5 on; six losses are a beginning."""
    monkeypatch.setattr(curve, "FEWEST", 6)
    monkeypatch.setattr(
        "lib_finetune.training.turns.Turns.__init__.__defaults__", (600.0,)
    )  # the clock ends no turn, where losses are read
    plan, current = {}, {"step": 0}
    one, following = Trainer._one_step, Trainer._next_loss

    def seen(real):
        def wrapped(self, *args):
            current["step"] = self.step + 1
            return real(self, *args)

        return wrapped

    monkeypatch.setattr(Trainer, "_one_step", seen(one))
    monkeypatch.setattr(Trainer, "_next_loss", seen(following))
    for kind in (LoraMethod, TextualInversionMethod, DreamBoothMethod):

        def loss(self, batch, generator, real=kind.loss):
            value, scalars = real(self, batch, generator)
            more = plan.get(current["step"], 0.0) or next(
                (v for s, v in plan.items() if "on" in str(s) and current["step"] >= int(s[2:])), 0.0
            )
            return value * more if more != more else value + more, scalars

        monkeypatch.setattr(kind, "loss", loss)
    return plan


def folder_of(host, name="run"):
    return host.paths.data / "runs" / name


def kept_step(host, name=STATE):
    path = folder_of(host) / name
    return state.load(path)["trainer"]["step"] if path.exists() else None


def results(host):
    return [
        path
        for folder in (host.paths.lora, host.paths.checkpoints, host.paths.embeddings)
        for path in folder.rglob("*.*")
        if path.is_file()
    ]


@pytest.mark.parametrize(
    ("method", "bad", "left"),
    [*((method, bad, left) for method in METHODS for bad, left in ((2, None), (5, 3))), ("lora", 1, None), ("whole", 3, 1)],
)
def test_the_state_on_the_disk_is_the_last_whose_next_loss_was_finite(bench, wrong, method, bad, left):
    changes = {**FLAT, **METHODS[method], "name": "zxqcat", "training.steps": "7", "saving.state_every": "1", "saving.precision": "fp32"}
    wrong[bad] = NAN
    host, recorder = bench.host(), Recorder()
    with pytest.raises(DivergedError, match=f"step {bad} "):
        bench.run(changes, host=host, recorder=recorder)
    assert kept_step(host) == left and not (folder_of(host) / NEXT).exists()
    assert all(torch.isfinite(value).all() for path in results(host) if path.suffix == ".safetensors" for value in tensors(path).values())
    if method.startswith("whole"):
        said = f"The last good state is that of step {left}" if left else "No state of this run is known to be good"
        assert not results(host) and any(said in line for line in recorder.lines)
    wrong.clear()
    for path in results(host):
        path.unlink()
    if left is None or method not in ("lora, average", "word", "whole"):
        return
    again = bench.run(changes, host=host)[0]
    assert same(tensors(again.file), tensors(bench.run(changes, host=bench.host("straight"))[0].file))


@pytest.mark.parametrize("method", ["lora", "lora, average", "word", "pivot, average"])
def test_a_rescue_holds_the_last_good_step_and_takes_a_free_name(bench, wrong, method):
    changes = {**FLAT, **METHODS[method], "name": "zxqcat", "training.steps": "30", "saving.precision": "fp32", "saving.overwrite": "true"}
    reference = bench.run(changes, host=bench.host("reference"), recorder=Recorder(stop_at=10))[0]
    host = bench.host()
    before = bench.run({**changes, "training.steps": "3"}, host=host, folder="before")[0].files
    bytes_before = {path: path.read_bytes() for path in before.values()}
    wrong[13] = NAN
    recorder = Recorder()
    with pytest.raises(DivergedError, match="step 13 "):
        bench.run(changes, host=host, recorder=recorder)
    assert all(path.read_bytes() == content for path, content in bytes_before.items())
    for kind, path in before.items():
        rescued = path.with_stem("zxqcat-2")
        ours, theirs = (read(made) for made in (rescued, reference.files[kind]))
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert any("zxqcat-2" in line and "holds step 10, the last good one" in line for line in recorder.lines)


def read(path):
    """Tensors of a LoRA or an embedding file; the word's own name is not looked at."""
    if path.suffix == ".safetensors":
        return {name.replace("zxqcat-2", "zxqcat"): value for name, value in tensors(path).items()}
    return {"*": torch.load(path, weights_only=True)["string_to_param"]["*"]}


@pytest.mark.parametrize("method", ["lora", "lora, average", "word", "whole"])
def test_a_last_step_after_which_the_loss_is_no_number_is_not_the_result(bench, wrong, method):
    changes = {**FLAT, **METHODS[method], "name": "zxqcat", "training.steps": "12", "saving.state_every": "4", "saving.states": "last"}
    wrong[13] = NAN
    host, recorder = bench.host(), Recorder()
    with pytest.raises(DivergedError, match="after step 12, the last one"):
        bench.run(changes, host=host, recorder=recorder)
    assert len(recorder.losses) == 12 and not any("is ready" in line for line in recorder.lines)
    assert kept_step(host, FINAL) is None and kept_step(host) == 8
    steps = [metadata(path)["ss_steps"] for path in results(host) if path.suffix == ".safetensors" and method.startswith("lora")]
    assert steps == (["9"] if method.startswith("lora") else []) and bool(results(host)) == (method != "whole")


@pytest.mark.parametrize(("stop", "losses"), [(None, 20), (8, 20), (12, 12 + 11)])
def test_what_is_far_and_finite_goes_on_and_the_last_good_state_stays(bench, wrong, stop, losses):
    """From step 11 on; step 9 was saved and is the last good one, whenever the run was stopped."""
    changes = {**FLAT, "training.steps": "20", "saving.state_every": "3", "saving.overwrite": "true", "saving.precision": "fp32"}
    host, reference = bench.host(), bench.run(changes, host=bench.host("reference"), recorder=Recorder(stop_at=9))[0]
    before = bench.run({**changes, "training.steps": "2"}, host=host, folder="before")[0].file
    content = before.read_bytes()
    wrong["on11"] = 1000.0
    recorder, first = Recorder(), Recorder(stop_at=stop)
    if stop:
        bench.run(changes, host=host, recorder=first)
    result, recorder, _ = bench.run(changes, host=host, recorder=recorder)
    assert len(first.losses) + len(recorder.losses) == losses and result.outcome == "done"
    assert (result.steps, kept_step(host), kept_step(host, FINAL)) == (9, 9, None)
    assert same(tensors(result.file), tensors(reference.file)) and metadata(result.file)["ss_steps"] == "9"
    assert result.file != before and (before.read_bytes() == content or stop == 8)  # a good result may replace another
    told = [line for line in [*first.lines, *recorder.lines] if "far above its beginning: the training continues" in line]
    assert len(told) == (2 if stop == 12 else 1) and any("The result holds step 9, the last good one" in line for line in recorder.lines)


def test_a_whole_model_that_ends_far_is_said_to_be_doubtful_and_its_last_good_state_stays(bench, wrong):
    changes = {**FLAT, **METHODS["whole"], "name": "zxqcat", "training.steps": "13", "saving.state_every": "5", "saving.overwrite": "true"}
    host = bench.host()
    before = bench.run({**changes, "training.steps": "1"}, host=host, folder="before")[0].file
    content = before.read_bytes()
    wrong["on12"] = 1000.0
    result, recorder, _ = bench.run(changes, host=host)
    assert before.read_bytes() == content and result.file.stem == "zxqcat-2" and kept_step(host) == 10
    assert any("may be spoilt" in line for line in recorder.lines) and any(
        "last good state is that of step 10" in line for line in recorder.lines
    )


def test_what_comes_down_again_is_good_again(bench, wrong):
    wrong[8] = 5.0
    result, recorder, host = bench.run({**FLAT, "training.steps": "34", "saving.state_every": "9"})
    assert any("has come down again" in line for line in recorder.lines)
    assert (result.steps, result.file.stem, kept_step(host), kept_step(host, FINAL)) == (34, "cat", None, 34)


def test_a_stop_looks_ahead_but_not_when_all_is_thrown_away(bench, wrong):
    wrong[4] = NAN
    with pytest.raises(DivergedError, match="after step 3"):
        bench.run(FLAT | {"training.steps": "9"}, recorder=Recorder(stop_at=3))
    result, _, host = bench.run(FLAT | {"training.steps": "9"}, host=bench.host("other"), recorder=Recorder(stop_at=3, discard=True))
    assert result.outcome == "discarded" and not results(host)


def test_a_stopped_run_keeps_its_state_at_once(bench, wrong):
    _, _, host = bench.run(FLAT, recorder=Recorder(stop_at=2))
    assert kept_step(host) == 2 and not (folder_of(host) / NEXT).exists()


def test_killed_at_any_moment_a_run_goes_on(bench, monkeypatch):
    """What lies on the disk after each write, and before each change of a name, is gone on from."""
    changes = {**FLAT, "network.dropout": "0.1", "training.ema_decay": "0.9", "training.steps": "3", "saving.state_every": "1"}
    host, moments = bench.host(), []
    save, settle = state.save, saved_states._settle

    def moment():
        copy = bench.root / f"moment-{len(moments)}"
        shutil.copytree(folder_of(host), copy)
        moments.append(copy)

    monkeypatch.setattr(state, "save", lambda path, value: (save(path, value), moment()))
    monkeypatch.setattr(saved_states, "_settle", lambda folder, good: (moment(), settle(folder, good), moment()))
    straight, told, _ = bench.run(changes, host=host)
    monkeypatch.undo()
    found = set()
    for number, copied in enumerate(moments):
        newest = RunFolder(copied).latest_state()
        if newest is None:  # the run was done
            continue
        seen = (*sorted(path.name for path in copied.glob("state*")), state.outline(newest)["trainer"]["step"])
        if seen in found:
            continue
        found.add(seen)
        other = bench.host(f"other-{number}")
        shutil.copytree(copied, folder_of(other))
        assert unfinished(other) == [folder_of(other)]
        again, recorder, _ = bench.run(changes, host=other)
        assert same(tensors(again.file), tensors(straight.file))
        assert recorder.losses == told.losses[len(told.losses) - len(recorder.losses) :]
    assert found == {(NEXT, 1), (STATE, 1), (NEXT, STATE, 2), (STATE, 2)}


def test_a_file_on_the_way_that_turned_out_bad_does_not_drive_out_the_good_one(bench, wrong):
    wrong[21] = NAN
    host, recorder = bench.host(), Recorder()
    recorder.presses["save"] = 15
    with pytest.raises(DivergedError):
        bench.run(
            FLAT | {"training.steps": "40", "saving.every_steps": "10", "saving.keep": "1", "saving.states": "all"},
            host=host,
            recorder=recorder,
        )
    assert {path.stem for path in host.paths.lora.glob("*.safetensors")} == {"cat-000010", "cat-000015", "cat"}
    assert any("cat-000020.safetensors was removed" in line for line in recorder.lines)
    assert set(saved_states.kept_states(RunFolder(folder_of(host)))) == {10, 15}


def test_a_file_that_was_asked_for_stays_and_is_said_to_be_bad(bench, wrong):
    wrong[5] = NAN
    host, recorder = bench.host(), Recorder()
    recorder.presses["save"] = 4
    with pytest.raises(DivergedError):
        bench.run(FLAT | {"training.steps": "9"}, host=host, recorder=recorder)
    assert (host.paths.lora / "cat-000004.safetensors").exists() and any("will be of no use" in line for line in recorder.lines)


def test_files_that_are_far_do_not_drive_out_the_last_good_one(bench, wrong):
    wrong["on12"] = 1000.0
    _, _, host = bench.run(FLAT | {"training.steps": "22", "saving.every_steps": "5", "saving.keep": "1"})
    assert {path.stem for path in host.paths.lora.glob("cat-*")} == {"cat-000010", "cat-000020"}


def test_a_state_of_before_the_curve_was_kept_goes_on(bench):
    changes = {**FLAT, "training.steps": "4"}
    _, _, host = bench.run(changes, recorder=Recorder(stop_at=2))
    path = folder_of(host) / STATE
    old = state.load(path)
    del old["trainer"]["ledger"]
    state.save(path, old)
    for file in results(host):
        file.unlink()
    assert bench.run(changes, host=host)[0].outcome == "done"


@pytest.mark.parametrize("method", ["lora", "word", "pivot", "whole"])
def test_what_ends_far_is_said_in_the_headline_with_the_best_snapshot(bench, wrong, method):
    from lib_finetune.jobs.queue import Jobs
    from tests.fakes.runs import settings

    changes = {**FLAT, **METHODS[method], "name": "zxqcat", "training.steps": "13", "saving.state_every": "4", "saving.every_steps": "4"}
    wrong["on10"] = 1000.0
    job = Jobs(bench.host()).submit(settings(bench.images, changes))
    while not job.ended:
        time.sleep(0.02)  # a loop without it takes the interpreter from the run
    assert job.state == "done" and "Check the result: the loss rose from" in job.message, job.message
    assert "zxqcat-000008" in job.message and "(step 8) was still good: try it first" in job.message
    assert "lower learning rate" in job.message


def test_a_good_run_has_no_warning(bench, wrong):
    assert bench.run({**FLAT, "training.steps": "13"})[0].warning == ""


def test_a_run_that_went_wrong_goes_on_with_a_lower_rate_but_not_with_a_higher_one(bench, wrong):
    changes = {**FLAT, "training.steps": "13", "saving.state_every": "4", "optimizer.unet_rate": "0.003"}
    wrong["on10"] = 1000.0
    host = bench.host()
    assert bench.run(changes, host=host)[0].warning
    wrong.clear()
    with pytest.raises(InputError, match=r"optimizer\.unet_rate"):
        bench.run({**changes, "optimizer.unet_rate": "0.004"}, host=host)
    result, recorder, _ = bench.run({**changes, "optimizer.unet_rate": "0.001"}, host=host)
    assert result.outcome == "done" and not result.warning and any("Resuming at step" in line for line in recorder.lines)
