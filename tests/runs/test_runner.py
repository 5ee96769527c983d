"""One run from images to a file, on the fake host."""

import json

import pytest
import torch

from lib_finetune.errors import DivergedError, FinetuneError, HostError, InputError, OutOfMemoryError, SaveError
from lib_finetune.model.digest import digest
from lib_finetune.runs.folder import STATE
from tests.fakes.host import Recorder, tiny_tensors
from tests.fakes.runs import Bench, metadata, same, tensors

DROPOUT = {"network.dropout": "0.1"}


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def whole(host):
    """The host's weights are bit for bit those it had, and its turn is free."""
    return digest(host.held.tensors) == digest(tiny_tensors()) and not host.lock.locked()


def test_a_run_ends_with_a_file_a_card_and_the_host_as_it_was(bench):
    result, recorder, host = bench.run({"preview.enabled": "true"})
    assert result.outcome == "done" and result.file == host.paths.lora / "cat.safetensors"
    card = json.loads(result.file.with_suffix(".json").read_text())
    assert card["activation text"] == "zxq cat" and card["preferred weight"] == 0.8
    assert result.file.with_suffix(".png").exists() and host.asked[-1].loras == ((result.file, 0.8),)
    assert not result.restoration.differences and whole(host)
    assert len(recorder.losses) == 4 and not (host.paths.data / "runs" / "run" / STATE).exists()


def test_the_file_has_been_trained(bench):
    up = {name: value for name, value in tensors(bench.run()[0].file).items() if name.endswith("lora_up.weight")}
    # At 64 px the deepest level is one cell wide; attention of one cell to itself has no gradient in queries and keys.
    assert all(value.abs().max() > 0 for name, value in up.items() if "attn1_to_q" not in name and "attn1_to_k" not in name)


def test_two_runs_with_one_seed_are_bit_equal_and_another_seed_is_not(bench):
    first, second = (bench.run(DROPOUT, host=bench.host(name))[0].file for name in "ab")
    other = bench.run({**DROPOUT, "training.seed": "7"}, host=bench.host("c"))[0].file
    assert same(tensors(first), tensors(second)) and not same(tensors(first), tensors(other))


def test_a_run_in_many_turns_equals_one_in_a_single_turn(bench, monkeypatch):
    results = []
    for turn_s in (60.0, 0.0):
        monkeypatch.setattr("lib_finetune.training.turns.Turns.__init__.__defaults__", (turn_s,))
        host = bench.host(str(turn_s))
        host.queued = True
        result, _, _ = bench.run(DROPOUT, host=host)
        results.append((tensors(result.file), host.turns))
    assert same(results[0][0], results[1][0]) and results[1][1] > results[0][1] + 3


@pytest.mark.parametrize("changes", [DROPOUT, {"training.ema_decay": "0.9", "optimizer.name": "adafactor", "training.accumulation": "2"}])
def test_a_stopped_run_goes_on_to_the_same_losses_and_file(bench, changes):
    straight, told, _ = bench.run(changes, host=bench.host("straight"))
    first = Recorder(stop_at=2)
    stopped, _, host = bench.run(changes, recorder=first)
    assert stopped.outcome == "stopped" and stopped.steps == 2
    stopped.file.unlink()
    result, second, _ = bench.run(changes, host=host)
    assert first.losses + second.losses == told.losses
    assert same(tensors(straight.file), tensors(result.file))


def test_a_run_goes_on_on_the_checkpoint_it_began_on(bench):
    straight = bench.run(host=bench.host("straight"))[0]
    host = bench.host()
    bench.run(host=host, recorder=Recorder(stop_at=2))[0].file.unlink()
    host.load_other("other")
    result, recorder, _ = bench.run(host=host)
    assert host.checkpoint().name == "tiny" and any("began on tiny" in line for line in recorder.lines)
    assert same(tensors(straight.file), tensors(result.file))


def test_changed_pictures_stop_a_run_from_going_on(bench):
    _, _, host = bench.run(recorder=Recorder(stop_at=2))
    (bench.images / "0.txt").write_text("another caption", encoding="utf-8")
    with pytest.raises(InputError, match="images have changed"):
        bench.run({"saving.overwrite": "true"}, host=host)


def test_stop_and_discard_writes_nothing(bench):
    result, _, host = bench.run(recorder=Recorder(stop_at=2, discard=True))
    assert result.outcome == "discarded" and result.file is None and not list(host.paths.lora.glob("*")) and whole(host)


def test_a_taken_name_is_refused_before_anything_starts(bench):
    _, _, host = bench.run()
    before = (host.paths.lora / "cat.safetensors").read_bytes()
    with pytest.raises(InputError, match="cat-2"):
        bench.run(host=host, folder="again")
    assert (host.paths.lora / "cat.safetensors").read_bytes() == before


def test_a_name_taken_meanwhile_is_not_overwritten(bench):
    host = bench.host()

    class Rival(Recorder):
        def steps(self, report):
            super().steps(report)
            host.paths.lora.mkdir(parents=True, exist_ok=True)
            (host.paths.lora / "cat.safetensors").write_bytes(b"mine")

    result, recorder, _ = bench.run(host=host, recorder=Rival())
    assert result.file.name == "cat-2.safetensors" and (host.paths.lora / "cat.safetensors").read_bytes() == b"mine"
    assert any("taken meanwhile" in line for line in recorder.lines)
    assert metadata(result.file)["ss_output_name"] == "cat-2"


def test_all_wrong_input_comes_in_one_message(bench):
    with pytest.raises(InputError) as caught:
        bench.run({"network.rank": "0", "data.images": str(bench.root / "nowhere"), "name": "a/b", "training.steps": "0"})
    assert {problem.field for problem in caught.value.problems} == {"network.rank", "data.images", "name", "training.steps"}


def test_intermediate_files_are_kept_up_to_the_limit(bench):
    _, _, host = bench.run({"training.steps": "6", "saving.every_steps": "1", "saving.keep": "2"})
    assert sorted(path.name for path in host.paths.lora.glob("*.safetensors")) == [
        "cat-000004.safetensors", "cat-000005.safetensors", "cat.safetensors",
    ]  # fmt: skip


def test_files_are_saved_by_epochs(bench):
    _, _, host = bench.run({"training.steps": "7", "saving.every_epochs": "1"})
    assert {path.name for path in host.paths.lora.glob("*.safetensors")} == {
        "cat-000003.safetensors",
        "cat-000006.safetensors",
        "cat.safetensors",
    }


def test_class_pictures_join_every_batch(bench, tmp_path):
    from tests.fakes.pictures import draw

    draw(tmp_path / "classes", 2, seed=5)
    plain = bench.run(host=bench.host("plain"))[0]
    prior = bench.run({"data.class_images": str(tmp_path / "classes")}, host=bench.host("prior"))[0]
    assert not same(tensors(plain.file), tensors(prior.file))


def test_waiting_for_the_checkpoint_and_going_on(bench):
    straight = bench.run(host=bench.host("straight"))[0]
    host = bench.host()

    class Switching(Recorder):
        def stage(self, name, done=0, total=0):
            super().stage(name)
            if name == "train" and "switched" not in self.lines:
                self.lines.append("switched")
                host.load_other("other")
            if name.startswith("waiting for"):
                self.load = True

    result, recorder, _ = bench.run(host=host, recorder=Switching())
    assert any(stage.startswith("waiting for tiny") for stage in recorder.stages)
    assert same(tensors(straight.file), tensors(result.file))


def test_stopping_while_waiting_keeps_what_was_trained(bench, monkeypatch):
    host = bench.host()
    host.waiting = lambda: True  # who chooses another checkpoint waits for the host: each turn ends with its step
    monkeypatch.setattr("lib_finetune.training.turns.Turns.__init__.__defaults__", (0.0,))

    class Leaving(Recorder):
        def steps(self, report):
            super().steps(report)
            if report.step == 2:
                host.load_other("other")

        def stop_asked(self):
            return any(stage.startswith("waiting") for stage in self.stages)

    result, _, _ = bench.run(host=host, recorder=Leaving())
    assert result.outcome == "stopped" and result.steps == 2 and result.file.exists()


FULL_DISK = OSError(28, "No space left on device")
FAULTS = {
    "clean": ("host", "lease", 0, HostError("the model is gone"), HostError),
    "bind": ("lib_finetune.assembly.builder.assemble", None, 0, RuntimeError("boom"), RuntimeError),
    "bind, out of memory": ("lib_finetune.assembly.builder.assemble", None, 0, torch.cuda.OutOfMemoryError("CUDA out of memory"), OutOfMemoryError),
    "cache": ("lib_finetune.assembly.builder.encode", None, 1, RuntimeError("boom"), RuntimeError),
    "cache, out of memory": ("lib_finetune.assembly.builder.encode", None, 1, RuntimeError("not enough memory: you tried to allocate"), OutOfMemoryError),
    "step": ("lib_finetune.training.methods.lora.LoraMethod.loss", None, 2, RuntimeError("boom"), RuntimeError),
    "step, out of memory": ("lib_finetune.training.methods.lora.LoraMethod.loss", None, 2, torch.cuda.OutOfMemoryError("CUDA out of memory"), OutOfMemoryError),
    "step, interrupted": ("lib_finetune.training.methods.lora.LoraMethod.loss", None, 2, KeyboardInterrupt(), KeyboardInterrupt),
    "save, full disk": ("os.fsync", None, 1, FULL_DISK, SaveError),
    "verify": ("host", "artifact_saved", 0, HostError("the loader refused it"), HostError),
    "give back": ("host", "restoration", 0, HostError("the model is gone"), HostError),
}  # fmt: skip


@pytest.mark.parametrize("stage", list(FAULTS))
def test_after_a_fault_the_host_is_as_it_was_and_the_error_speaks(bench, monkeypatch, stage):
    place, method, after, error, expected = FAULTS[stage]
    host = bench.host()
    if place == "host":
        host.faults[method] = (after, error)
    else:
        monkeypatch.setattr(place, failing(place, after, error))
    state = torch.get_rng_state()
    with pytest.raises(expected) as caught:
        bench.run(host=host)
    assert whole(host) and torch.equal(state, torch.get_rng_state())
    if issubclass(expected, FinetuneError):
        assert len(str(caught.value)) > 10
    assert not [path for path in host.paths.lora.glob("*") if path.name.endswith(".part")]


def failing(place, after, error):
    """The function at ``place``, which raises after so many calls."""
    import importlib

    module, _, name = place.rpartition(".")
    try:
        real = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError:
        owner, _, kind = module.rpartition(".")
        real = getattr(getattr(importlib.import_module(owner), kind), name)
    calls = []

    def fail(*args, **kwargs):
        calls.append(1)
        if len(calls) > after:
            raise error
        return real(*args, **kwargs)

    return fail


@pytest.mark.parametrize("stage", ["step", "step, out of memory", "save, full disk"])
def test_after_a_fault_the_run_goes_on_to_the_same_file(bench, monkeypatch, stage):
    straight = bench.run(DROPOUT, host=bench.host("straight"))[0]
    place, _, after, error, expected = FAULTS[stage]
    host = bench.host()
    changes = {**DROPOUT, "saving.state_every": "3"}
    with monkeypatch.context() as patched:
        patched.setattr(place, failing(place, after + (stage == "save, full disk"), error))
        with pytest.raises(expected):
            bench.run(changes, host=host)
    result, _, _ = bench.run(changes, host=host)
    assert same(tensors(straight.file), tensors(result.file))


def test_a_loss_that_is_no_number_keeps_the_last_good_state(bench, monkeypatch):
    from lib_finetune.training.methods.lora import LoraMethod

    real, calls = LoraMethod.loss, []

    def loss(self, batch, generator):
        calls.append(1)
        value, report = real(self, batch, generator)
        return (value * float("nan") if len(calls) > 12 else value), report

    monkeypatch.setattr(LoraMethod, "loss", loss)
    host = bench.host()
    with pytest.raises(DivergedError, match="step 13"):
        bench.run({"training.steps": "30"}, host=host)
    file = host.paths.lora / "cat.safetensors"
    assert (
        all(torch.isfinite(value).all() for value in tensors(file).values())
        and 1 <= int(metadata(file)["ss_steps"]) <= 12  # of the last time that losses were read: every ten steps and at a turn's end
        and whole(host)
    )


def test_a_preview_that_fails_costs_only_the_picture(bench):
    host = bench.host()
    host.faults["pictures"] = (0, RuntimeError("no room"))
    result, recorder, _ = bench.run({"preview.enabled": "true"}, host=host)
    assert result.outcome == "done" and any("preview" in line for line in recorder.lines)


def test_a_state_that_cannot_be_written_does_not_end_the_training(bench, monkeypatch):
    from lib_finetune.training import state

    monkeypatch.setattr(state, "save", lambda *_: (_ for _ in ()).throw(SaveError("the disk is full")))
    result, recorder, _ = bench.run({"saving.state_every": "2"})
    assert result.outcome == "done" and any("disk is full" in line for line in recorder.lines)


def test_a_value_that_does_not_fit_fp16_is_never_saved(bench, monkeypatch):
    from lib_finetune.training.adapters.lora import LoraAdapter

    real = LoraAdapter.state
    monkeypatch.setattr(LoraAdapter, "state", lambda self: {name: value + 1e6 for name, value in real(self).items()})
    with pytest.raises(SaveError, match="bf16 or fp32"):
        bench.run()


def test_a_long_caption_is_said_before_training(bench):
    (bench.images / "0.txt").write_text("word, " * 100, encoding="utf-8")
    _, recorder, _ = bench.run({"data.max_tokens": "75"})
    assert any("75 are read" in line for line in recorder.lines)


@pytest.mark.parametrize("method", ["lora", "textual_inversion"])
def test_where_memory_is_short_checkpointing_is_switched_on_and_said(bench, method):
    from lib_finetune.ports.host import MemoryUse

    host = bench.host()
    host.memory = lambda: MemoryUse(0, 0, 0, 1 << 20)
    _, recorder, _ = bench.run({"method": method, "name": "zxqcat"}, host=host)
    assert any("Gradient checkpointing is on" in line for line in recorder.lines)
    _, recorder, _ = bench.run({"method": method, "name": "zxqdog"})
    assert not any("Gradient checkpointing is on" in line for line in recorder.lines)
