"""States that are kept, and more steps from them: the same file as of one long run."""

import shutil

import pytest
import torch

from lib_finetune.errors import InputError
from lib_finetune.runs import continuation as module
from lib_finetune.runs import saved_states
from lib_finetune.runs.continuation import further
from lib_finetune.runs.folder import FINAL, SETTINGS, STATE, RunFolder
from lib_finetune.runs.runner import Runner
from lib_finetune.training import state
from tests.fakes.host import Recorder
from tests.fakes.runs import Bench, same, settings, tensors

CONSTANT = {"optimizer.schedule": "constant", "optimizer.warmup": "0"}
PIVOT = {"method": "pivotal_tuning", "embedding.until": "1", "embedding.vectors": "2", **CONSTANT}
WHOLE = {"method": "dreambooth", "data.trigger": "sks", "tuning.text_encoder_until": "1", "saving.states": "last", **CONSTANT}


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path, pictures=4)


def folder_of(host, name="run"):
    return host.paths.data / "runs" / name


def go_further(bench, host, changes, step=None, more=2, name="more", source="run"):
    """The result of more steps, with what was told."""
    given = settings(bench.images, changes)
    chosen, folder = further(host, given, folder_of(host, source), step, more, name, folder_of(host, f"{source}-{name}"))
    recorder = Recorder()
    return Runner(chosen, host, folder, recorder, recorder).execute(), recorder


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_the_last_state_stays_and_the_run_is_done(bench):
    _, _, host = bench.run(CONSTANT)
    assert saved_states.kept_states(RunFolder(folder_of(host))) == {4: folder_of(host) / FINAL} and not (folder_of(host) / STATE).exists()


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"saving.states": "none"}, []),
        ({"saving.states": "last"}, [4]),
        ({"saving.states": "all"}, [1, 2, 3, 4]),
        ({"saving.states": "all", "saving.keep": "1"}, [3, 4]),
        ({}, [4]),
    ],
)
def test_so_many_states_are_kept(bench, changes, steps):
    _, _, host = bench.run({**CONSTANT, "saving.every_steps": "1", **changes})
    assert list(saved_states.kept_states(RunFolder(folder_of(host)))) == steps


@pytest.mark.parametrize(("wish", "steps"), [("auto", []), ("last", [2])])
def test_of_a_whole_model_states_are_kept_on_demand(bench, wish, steps):
    _, _, host = bench.run({**WHOLE, "saving.states": wish, "training.steps": "2"})
    assert list(saved_states.kept_states(RunFolder(folder_of(host)))) == steps


def test_a_state_goes_with_its_file_and_one_asked_for_by_the_button_has_its_own(bench):
    recorder = Recorder()
    recorder.presses["save"] = 2
    _, _, host = bench.run({**CONSTANT, "saving.states": "all"}, recorder=recorder)
    assert list(saved_states.kept_states(RunFolder(folder_of(host)))) == [2, 4]


def test_a_stopped_run_offers_its_state_and_what_is_broken_is_left_out(bench):
    _, _, host = bench.run(CONSTANT, recorder=Recorder(stop_at=3))
    (folder_of(host) / FINAL).write_bytes(b"torn")
    assert saved_states.kept_states(RunFolder(folder_of(host))) == {3: folder_of(host) / STATE}


def test_a_states_outline_holds_its_step_and_no_tensors(bench):
    _, _, host = bench.run({**CONSTANT, "training.ema_decay": "0.9"})
    found = state.outline(folder_of(host) / FINAL)
    assert found["trainer"]["step"] == 4 and set(found["trainer"]["ema"].values()) == {None}


# -- going on ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {**CONSTANT, "network.dropout": "0.1"},
        {**CONSTANT, "training.ema_decay": "0.9", "training.accumulation": "2", "optimizer.name": "adafactor"},
        {**CONSTANT, "data.held_out": "1", "training.validate_every": "1"},
        {**CONSTANT, "network.adapter": "lokr"},
        {**CONSTANT, "method": "textual_inversion", "embedding.vectors": "2", "embedding.keep_norm": "true"},
        PIVOT,
        WHOLE,
    ],
    ids=["dropout", "average", "validation", "lokr", "word", "pivot", "whole"],
)
def test_more_steps_give_what_one_long_run_gives(bench, changes):
    long, told, _ = bench.run({**changes, "name": "zxqlong", "training.steps": "6"}, host=bench.host("long"))
    _, before, host = bench.run({**changes, "name": "zxqcat"})
    result, after = go_further(bench, host, {**changes, "name": "zxqcat"}, name="zxqmore")
    assert result.file.stem == "zxqmore" and before.losses + after.losses == told.losses
    assert [figure for figure in told.figures if figure[0] == "validation"] == [f for f in after.figures if f[0] == "validation"]
    ours, theirs = (
        {name.replace(word, ""): v for name, v in tensors(made.file).items()} for made, word in ((result, "zxqmore"), (long, "zxqlong"))
    )
    assert same(ours, theirs)


def test_from_a_step_on_the_way(bench):
    changes = {**CONSTANT, "saving.states": "all", "saving.every_steps": "2"}
    long = bench.run({**changes, "training.steps": "7"}, host=bench.host("long"))[0]
    _, _, host = bench.run(changes)
    result, recorder = go_further(bench, host, changes, step=2, more=5)
    assert same(tensors(result.file), tensors(long.file)) and any("Resuming at step 2 of 7" in line for line in recorder.lines)


def test_the_run_before_stays_as_it_was(bench):
    first, _, host = bench.run(CONSTANT)
    kept, card = folder_of(host) / FINAL, tensors(first.file)
    before = kept.read_bytes()
    go_further(bench, host, CONSTANT)
    assert kept.read_bytes() == before and same(tensors(first.file), card) and RunFolder(folder_of(host)).settings().name == "cat"
    assert list(saved_states.kept_states(RunFolder(folder_of(host, "run-more")))) == [6]
    go_further(bench, host, CONSTANT, name="again")  # and can be gone on from again


def test_where_the_disk_knows_no_second_names_the_state_is_copied(bench, monkeypatch):
    long = bench.run({**CONSTANT, "training.steps": "6"}, host=bench.host("long"))[0]
    _, _, host = bench.run(CONSTANT)
    monkeypatch.setattr(module.os, "link", lambda *_: (_ for _ in ()).throw(OSError(18, "Invalid cross-device link")))
    assert same(tensors(go_further(bench, host, CONSTANT)[0].file), tensors(long.file))


def test_it_goes_on_on_the_checkpoint_that_the_run_before_began_on(bench):
    long = bench.run({**CONSTANT, "training.steps": "6"}, host=bench.host("long"))[0]
    _, _, host = bench.run(CONSTANT)
    host.load_other("other")
    result, recorder = go_further(bench, host, CONSTANT)
    assert any("began on tiny" in line for line in recorder.lines) and same(tensors(result.file), tensors(long.file))


def test_what_is_saved_and_shown_may_be_another(bench):
    _, _, host = bench.run(CONSTANT)
    changes = {**CONSTANT, "saving.precision": "fp32", "saving.every_steps": "1", "preview.enabled": "true"}
    result, _ = go_further(bench, host, changes)
    assert tensors(result.file)[next(iter(tensors(result.file)))].dtype == torch.float32
    assert (host.paths.lora / "more-000005.safetensors").exists() and host.asked


def test_what_the_state_hangs_on_may_not(bench):
    _, _, host = bench.run(CONSTANT)
    with pytest.raises(InputError, match=r"its settings optimizer\.unet_rate, training\.seed have changed since step 4"):
        go_further(bench, host, {**CONSTANT, "training.seed": "7", "optimizer.unet_rate": "0.5"})
    (bench.images / "0.txt").write_text("another caption", encoding="utf-8")
    with pytest.raises(InputError, match="its images have changed"):
        go_further(bench, host, CONSTANT, name="again")


def test_the_form_that_the_run_before_took_is_kept(bench):
    from lib_finetune.ports.host import MemoryUse

    host = bench.host()
    memory, host.memory = host.memory, lambda: MemoryUse(0, 0, 0, 1 << 20)
    bench.run(CONSTANT, host=host)
    host.memory = memory
    assert go_further(bench, host, CONSTANT)[0].outcome == "done"
    assert RunFolder(folder_of(host, "run-more")).settings().training.gradient_checkpointing


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_without_a_state_of_that_step_those_that_there_are_are_told(bench):
    _, _, host = bench.run({**CONSTANT, "saving.states": "all", "saving.every_steps": "2"})
    with pytest.raises(InputError, match=r"step: No state of step 3 is kept, only of 2, 4; .*network\.start"):
        go_further(bench, host, CONSTANT, step=3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({}, r"network\.start"), ({"method": "textual_inversion", "name": "zxqcat"}, r"embedding\.init"), (WHOLE, "load the checkpoint")],
)
def test_without_any_state_the_way_from_the_file_is_told(bench, changes, said):
    changes = {**CONSTANT, **changes, "saving.states": "none"}
    _, _, host = bench.run(changes)
    with pytest.raises(InputError, match=rf"kept no state.*{said}"):
        go_further(bench, host, changes)


def test_a_taken_name_no_steps_and_a_folder_without_its_checkpoint_are_refused(bench):
    _, _, host = bench.run(CONSTANT)
    with pytest.raises(InputError, match="cat-2"):
        go_further(bench, host, CONSTANT, name="cat")
    with pytest.raises(InputError, match="0 more steps are none"):
        go_further(bench, host, CONSTANT, more=0)
    (folder_of(host) / "checkpoint.json").unlink()
    with pytest.raises(InputError, match="does not tell its checkpoint"):
        go_further(bench, host, CONSTANT)
    assert not folder_of(host, "run-more").exists() and not folder_of(host, "run-cat").exists()


def test_fewer_steps_than_are_done_are_refused(bench):
    _, _, host = bench.run(CONSTANT, recorder=Recorder(stop_at=3))
    shutil.rmtree(host.paths.lora)
    with pytest.raises(InputError, match=r"training\.steps: is 2, but step 3 is done"):
        bench.run({**CONSTANT, "training.steps": "2"}, host=host)
    result, _, _ = bench.run({**CONSTANT, "training.steps": "5"}, host=host)
    assert result.steps == 5 and RunFolder(folder_of(host)).settings().training.steps == 5 and (folder_of(host) / SETTINGS).exists()


# -- the disk ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({"saving.states": "last", "saving.every_steps": "10"}, 2),
        ({"saving.states": "all"}, 2),
        ({"saving.states": "all", "saving.every_steps": "10"}, 11),
        ({"saving.states": "all", "saving.every_epochs": "5"}, 6),
        ({"saving.states": "all", "saving.every_steps": "10", "saving.keep": "3"}, 5),
    ],
)
def test_so_many_states_lie_on_the_disk_at_once(bench, changes, count):
    from lib_finetune.estimates.memory_plan import states_at_once

    assert states_at_once(settings(bench.images, {"training.steps": "100", **changes}), views=4) == count


def test_a_whole_models_states_must_fit_on_the_disk(bench, monkeypatch):
    from lib_finetune.estimates import memory_plan, method_costs

    changes = {**WHOLE, "tuning.weights": "fp32", "tuning.in_backward": "off", "optimizer.name": "adamw", "saving.every_steps": "1"}
    with bench.host().lease() as lease:
        chosen, counts = settings(bench.images, changes), memory_plan.weights_of(lease).counts
        files = 4 * method_costs.checkpoint_bytes(chosen, counts, method_costs.stored(None, lease))
        room = files + 3 * memory_plan.state_bytes(chosen, counts)
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda place: real(place)._replace(free=room))
    assert bench.run(changes)[0].outcome == "done"
    with pytest.raises(InputError, match=r"the saved states .*saving\.states to last"):
        bench.run({**changes, "saving.states": "all"}, host=bench.host("full"))
