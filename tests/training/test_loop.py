"""The engine's parts: states, loss log, turns, precision, EMA, random states."""

import random
import threading
import time

import numpy as np
import pytest
import torch

from lib_finetune import randomness
from lib_finetune.errors import CheckpointChangedError, DivergedError, InputError, SaveError
from lib_finetune.files import write_atomically
from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.random_weights import small_layout
from lib_finetune.training import loop, precision, state
from lib_finetune.training.ema import Ema
from lib_finetune.training.loss_log import LossLog
from lib_finetune.training.turns import Turns
from tests.fakes.host import FakeHost

CPU = torch.device("cpu")


def test_a_state_comes_back_as_it_was(tmp_path):
    value = {"a": [1, 2.5, None, "x"], 3: (torch.arange(4), {"b": torch.tensor(2.0)}), "c": float("inf")}
    state.save(tmp_path / "s.safetensors", value)
    back = state.load(tmp_path / "s.safetensors")
    assert back["a"] == value["a"] and back["c"] == float("inf")
    assert torch.equal(back[3][0], torch.arange(4)) and back[3][1]["b"] == 2.0 and isinstance(back[3], tuple)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x00" * 100])
def test_a_broken_state_is_refused_in_words(tmp_path, content):
    (tmp_path / "s.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="start the run anew"):
        state.load(tmp_path / "s.safetensors")


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    target = tmp_path / "file"
    target.write_bytes(b"old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(SaveError, match="No space left"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old" and [path.name for path in tmp_path.iterdir()] == ["file"]


def ledger_of(parameter, norm_counts=True):
    reports = []
    return LossLog({"p": parameter}, 100, norm_counts, reports.append), reports


NAN = float("nan")


def steps(loss_log, parameter, *losses, norm=1.0):
    """Each step adds one to what trains and has a loss, which is that of the weights before it."""
    for loss in losses:
        parameter.data += 1
        loss_log.note(torch.tensor(loss), torch.tensor(norm), {"unet": 1e-4})


def test_a_loss_that_is_no_number_brings_the_last_good_parameters_back():
    """The loss of step 3 tells that what step 2 left was bad already."""
    parameter = torch.nn.Parameter(torch.zeros(2))
    loss_log, _ = ledger_of(parameter)
    loss_log.begin(0)
    for _ in range(2):
        steps(loss_log, parameter, 0.5)
        loss_log.fetch()
    steps(loss_log, parameter, NAN)
    with pytest.raises(DivergedError, match=r"step 3 .*0\.0001"):
        loss_log.fetch()
    assert torch.equal(parameter, torch.ones(2)) and loss_log.good_step == 1


@pytest.mark.parametrize(("bad", "good"), [(1, 0), (4, 0), (5, 3), (6, 3), (7, 3), (8, 6)])
def test_the_copy_that_comes_back_is_the_last_whose_next_loss_was_finite(bad, good):
    parameter, average = torch.nn.Parameter(torch.zeros(2)), torch.zeros(2)
    loss_log = LossLog({"p": parameter}, 100, True, lambda _: None, average=[average])
    loss_log.begin(0)

    def train():
        for step in range(1, 12):
            average.add_(0.5)
            steps(loss_log, parameter, NAN if step == bad else 0.5)
            if step % 3 == 0:
                loss_log.fetch()

    with pytest.raises(DivergedError, match=f"step {bad} "):
        train()
    assert loss_log.good_step == good and torch.equal(parameter, torch.full((2,), float(good))) and average[0] == good / 2


def test_a_gradient_that_is_no_number_leaves_the_state_before_it_good():
    parameter = torch.nn.Parameter(torch.zeros(2))
    loss_log, _ = ledger_of(parameter)
    loss_log.begin(0)
    steps(loss_log, parameter, 0.5)
    loss_log.fetch()
    steps(loss_log, parameter, 0.5, norm=NAN)
    with pytest.raises(DivergedError, match="step 2 "):
        loss_log.fetch()
    assert loss_log.good_step == 1 and parameter[0] == 1


def test_what_is_far_goes_on_and_the_good_copy_stays():
    parameter, told = torch.nn.Parameter(torch.zeros(2)), []
    loss_log, _ = ledger_of(parameter)
    loss_log.turned = told.append
    loss_log.begin(0)
    steps(loss_log, parameter, *[0.5] * 60, *[50.0] * 20)
    assert loss_log.good_step == 50 and told == [True] and loss_log.doubtful
    loss_log.go_back()
    assert parameter[0] == 50
    steps(loss_log, parameter, *[0.5] * 120)
    assert told == [True, False] and loss_log.good_step == 190 and not loss_log.doubtful


@pytest.mark.parametrize(("ahead", "good"), [(0.5, True), (5000.0, False)])
def test_a_look_ahead_stands_for_the_next_loss(ahead, good):
    parameter, told = torch.nn.Parameter(torch.zeros(2)), []
    loss_log, reports = ledger_of(parameter)
    loss_log.begin(0)
    steps(loss_log, parameter, *[0.5] * 55)
    loss_log.fetch()
    loss_log.when_judged(told.append)
    assert loss_log.present is None
    before = loss_log.state()
    loss_log.look_ahead(torch.tensor(ahead))
    loss_log.fetch()
    assert told == [good] and loss_log.present is good and loss_log.good_step == (55 if good else 50)
    assert loss_log.state() == before and sum(len(report.losses) for report in reports) == 55


def test_a_look_ahead_that_is_no_number_ends_the_run():
    parameter = torch.nn.Parameter(torch.zeros(2))
    loss_log, _ = ledger_of(parameter)
    loss_log.begin(0)
    steps(loss_log, parameter, *[0.5] * 12)
    loss_log.look_ahead(torch.tensor(NAN))
    with pytest.raises(DivergedError, match="after step 12, the last one"):
        loss_log.fetch()
    assert loss_log.good_step == 10 and parameter[0] == 10


def test_what_waits_for_a_judgement_hears_it_with_the_next_step():
    parameter, told = torch.nn.Parameter(torch.zeros(2)), []
    loss_log, _ = ledger_of(parameter)
    loss_log.begin(0)
    steps(loss_log, parameter, 0.5, 0.5)
    loss_log.pause()
    loss_log.when_judged(told.append)
    steps(loss_log, parameter, 0.5)
    assert told == [True]


def test_a_state_that_is_not_proven_is_no_good_copy():
    parameter = torch.nn.Parameter(torch.zeros(2))
    loss_log, _ = ledger_of(parameter)
    loss_log.load_state({}, proven=False)
    loss_log.begin(7)
    assert loss_log.present is None and loss_log.good_step == 0
    steps(loss_log, parameter, 0.5)
    loss_log.fetch()
    assert loss_log.good_step == 7


@pytest.mark.parametrize("counts", [True, False])
def test_a_gradient_that_is_no_number_counts_unless_a_scaler_skips_it(counts):
    loss_log, _ = ledger_of(torch.nn.Parameter(torch.zeros(2)), norm_counts=counts)
    loss_log.note(torch.tensor(0.5), torch.tensor(float("inf")), {})
    if counts:
        with pytest.raises(DivergedError):
            loss_log.fetch()
    else:
        loss_log.fetch()


def test_scalars_are_fetched_every_ten_steps():
    loss_log, reports = ledger_of(torch.nn.Parameter(torch.zeros(2)))
    for step in range(25):
        loss_log.note(torch.tensor(float(step)), torch.tensor(1.0), {})
    assert [len(report.losses) for report in reports] == [10, 10] and reports[-1].step == 20


def test_torchs_random_state_of_the_host_is_kept():
    torch.manual_seed(1)
    expected = torch.rand(1).item()
    torch.manual_seed(1)
    with pytest.raises(ZeroDivisionError), randomness.preserved():
        _ = randomness.for_step(5, 5), torch.rand(1), 1 / 0
    assert torch.rand(1).item() == expected


def test_who_draws_from_python_or_numpy_meanwhile_does_not_draw_again():
    with randomness.preserved():
        randomness.for_step(5, 5)
        meanwhile = (random.random(), np.random.rand())
    assert random.random() != meanwhile[0] and np.random.rand() != meanwhile[1]


def test_the_noise_of_a_step_is_the_same_with_and_without_dropout():
    with randomness.preserved():
        seeded = torch.randn(3, generator=randomness.for_step(1, 7))
    assert torch.equal(seeded, torch.randn(3, generator=randomness.noise_of(1, 7)))


def test_a_step_draws_the_same_whatever_came_before():
    first = torch.randn(3, generator=randomness.for_step(1, 7)), torch.rand(3)
    randomness.for_step(1, 3), torch.rand(100)
    second = torch.randn(3, generator=randomness.for_step(1, 7)), torch.rand(3)
    assert all(torch.equal(a, b) for a, b in zip(first, second))


def test_ema_follows_and_gives_the_parameters_back():
    parameter = torch.nn.Parameter(torch.zeros(1))
    ema = Ema({"p": parameter}, 0.5)
    parameter.data += 1
    for step in range(1, 100):
        ema.update(step)
    with ema.applied():
        assert parameter.item() == pytest.approx(1, abs=1e-3)
    parameter.data += 1
    with ema.applied():
        assert parameter.item() == pytest.approx(1, abs=1e-3)
    assert parameter.item() == 2


def turns_on(host, on_changed=lambda error: None, turn_s=0.0):
    model = BorrowedModel(small_layout())
    return Turns(host, host.checkpoint(), model, on_changed, turn_s), model


def test_a_turn_ends_with_the_step_after_its_time_where_somebody_waits(tmp_path):
    host = FakeHost(tmp_path)
    host.queued = True
    turns, model = turns_on(host)
    for _ in range(3):
        with turns.step():
            assert host.lock.locked() and model.unet.conv_in.weight.device == CPU
    assert host.turns == 3 and not host.lock.locked() and model.unet.conv_in.weight.device.type == "meta"


def test_a_turn_goes_on_past_its_time_until_somebody_waits_and_tells_of_its_steps_meanwhile(tmp_path):
    host, reads = FakeHost(tmp_path), []
    turns, _ = turns_on(host)
    turns.before_close(lambda: reads.append(host.queued))
    for step in range(4):
        with turns.step():
            host.queued = step == 2
        assert host.lock.locked() == (step != 2)
    assert host.turns == 2 and reads == [False, False, True, False]


def test_a_turn_that_nobody_waits_for_ends_all_the_same_before_long(tmp_path, monkeypatch):
    monkeypatch.setattr("lib_finetune.training.turns.LONGEST_S", 0.05)
    host = FakeHost(tmp_path)
    turns, _ = turns_on(host)
    for _ in range(3):
        with turns.step():
            time.sleep(0.06)
    assert host.turns == 3 and not host.lock.locked()


def test_steps_share_a_turn_while_its_time_lasts(tmp_path):
    host = FakeHost(tmp_path)
    turns, _ = turns_on(host, turn_s=60)
    for _ in range(3):
        with turns.step():
            pass
    assert host.turns == 1 and host.lock.locked()
    turns.close()
    assert not host.lock.locked()


def test_an_error_in_a_step_gives_the_turn_back(tmp_path):
    host = FakeHost(tmp_path)
    turns, model = turns_on(host, turn_s=60)
    with pytest.raises(RuntimeError), turns.step():
        raise RuntimeError("boom")
    assert not host.lock.locked() and model.unet.conv_in.weight.device.type == "meta"


def test_another_checkpoint_makes_the_turn_wait_until_it_is_back(tmp_path):
    host = FakeHost(tmp_path)
    seen = []

    def wait(error: CheckpointChangedError) -> None:
        seen.append(error.loaded)
        host.load_back()

    turns, _ = turns_on(host, wait)
    host.load_other("other")
    with turns.step():
        assert seen == ["other"]


def test_others_get_the_lock_between_turns(tmp_path):
    host = FakeHost(tmp_path)
    turns, _ = turns_on(host)
    got = threading.Event()
    with turns.step():
        host.queued = True
        threading.Thread(target=lambda: (host.lock.acquire(), got.set(), host.lock.release())).start()
    assert got.wait(30)


@pytest.mark.parametrize(
    ("wanted", "base", "compute"),
    [("auto", torch.float32, torch.float32), ("auto", torch.bfloat16, torch.bfloat16), ("bf16", torch.float32, torch.bfloat16)],
)
def test_precision_on_the_cpu(wanted, base, compute):
    assert precision.choose(wanted, base, CPU).compute == compute


@pytest.mark.parametrize(("wanted", "base"), [("fp16", torch.float32), ("fp32", torch.bfloat16)])
def test_a_precision_that_cannot_be_had_is_refused(wanted, base):
    with pytest.raises(InputError, match="precision"):
        precision.choose(wanted, base, CPU)


CARDS = {
    "NVIDIA GeForce RTX 3060": (8, 6),
    "NVIDIA GeForce RTX 2070": (7, 5),
    "NVIDIA GeForce GTX 1660 SUPER": (7, 5),
    "NVIDIA GeForce GTX 1650 Ti with Max-Q Design": (7, 5),
    "GeForce GTX 1660 Ti": (7, 5),
    "NVIDIA GeForce GTX 1070": (6, 1),
}


def card(monkeypatch, name):
    """A CUDA device as torch tells of it, without one."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _=None: name)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _=None: CARDS[name])
    return torch.device("cuda")


@pytest.mark.parametrize(
    ("name", "compute"),
    [(name, torch.bfloat16 if power >= (8, 0) else torch.float32 if "GTX 16" in name else torch.float16) for name, power in CARDS.items()],
)
def test_a_float32_model_computes_as_the_card_can(monkeypatch, name, compute):
    """That of --no-half, too: the GTX 16 cards, whose fp16 gives black images, train it in fp32."""
    device = card(monkeypatch, name)
    chosen = precision.choose("auto", torch.float32, device)
    assert chosen.compute == compute and chosen.scales == (compute == torch.float16) == precision.scales("auto", device)
    assert precision.choose("auto", torch.float16, device).compute == torch.float16  # a model in fp16 computes as it is


def test_a_card_that_torch_cannot_see_is_none_of_those_without_fp16(monkeypatch):
    def unseen(_=None):
        raise RuntimeError("No CUDA GPUs are available")

    monkeypatch.setattr(torch.cuda, "get_device_name", unseen)
    assert not precision.lacks_fp16(torch.device("cuda")) and not precision.lacks_fp16(CPU)


def test_bf16_on_a_float32_base_computes_in_bf16():
    with precision.choose("bf16", torch.float32, CPU).context():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


@pytest.mark.parametrize("clip", [0.0, 0.1])
def test_clipping_bounds_the_gradient_and_zero_is_off(clip):
    parameter = torch.nn.Parameter(torch.zeros(4))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    parameter.grad = torch.ones(4)
    norm = precision.choose("fp32", torch.float32, CPU).step(optimizer, [parameter], clip)
    assert norm.item() == pytest.approx(2)
    assert parameter.norm().item() == pytest.approx(clip or 2.0, rel=1e-4)


def test_tensors_are_found_however_deep_an_optimizer_holds_them():
    one, two, three = (torch.full((1,), float(number)) for number in range(3))
    state = {"step": 3, "rows": [one, (two, {"inner": three}), "text"], "nothing": None}
    assert [float(tensor) for tensor in loop._tensors(state)] == [0.0, 1.0, 2.0]
