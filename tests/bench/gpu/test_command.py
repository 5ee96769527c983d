"""The checks of a device: on the CPU all of them run that need no CUDA, and whatever fails is a row."""

import json

import pytest
import torch

from bench.__main__ import main as bench
from bench.gpu import checks, command, report
from bench.gpu.ground import Ground

ON_CUDA_ALONE = {
    "no wait inside a step",
    "kernels of a step",
    "peak of a LoRA with checkpointing",
    "fp16 image encoder",
    "out of memory at 30 %",
    "an error that stays",
}


@pytest.mark.slow
def test_on_the_cpu_all_hold_but_those_that_need_cuda(tmp_path, capsys):
    assert bench(["gpu", "--device", "cpu", "--steps", "2", "--output", str(tmp_path / "gpu.md")]) == 0, capsys.readouterr().out
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert {row["check"] for row in rows if row["outcome"] == report.NOT_HERE} == ON_CUDA_ALONE
    assert len([row for row in rows if row["outcome"] == report.OK]) == len(rows) - len(ON_CUDA_ALONE) >= 10
    table = (tmp_path / "gpu.md").read_text()
    assert table.startswith("date: ") and "commit: " in table and "driver: none" in table and "| two equal runs | ok |" in table


def test_a_check_that_fails_is_a_row_and_the_next_ones_have_their_turn(tmp_path, monkeypatch, capsys):
    def fail():
        raise ValueError("wrong | here\nand there")

    monkeypatch.setattr(command, "all_checks", lambda ground: {"first": fail, "second": lambda: "fine"})
    assert bench(["gpu", "--device", "cpu", "--output", str(tmp_path / "gpu.md")]) == 1
    assert "| first | FAIL | ValueError: wrong / here and there |" in (tmp_path / "gpu.md").read_text()
    assert "| second | ok | fine |" in (tmp_path / "gpu.md").read_text()


def test_without_cuda_it_is_not_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert bench(["gpu", "--device", "cuda", "--output", str(tmp_path / "gpu.md")]) == 2
    assert "--device: torch has no CUDA here" in capsys.readouterr().err


@pytest.fixture
def ground(tmp_path):
    return Ground(torch.device("cpu"), tmp_path, full=False, resolution_px=64, steps=2)


def test_a_matrix_that_stays_is_named(ground, monkeypatch):
    monkeypatch.setattr(checks, "load_file", lambda path: {"model.diffusion_model.still.weight": torch.ones(2, 2)})
    monkeypatch.setattr(ground, "train", lambda *_: (None, "cat.safetensors"))
    with pytest.raises(AssertionError, match=r"1 of 1 did not move, first model\.diffusion_model\.still\.weight"):
        checks.every_weight_moves(ground, "the smallest")


def test_a_loss_that_is_no_number_fails(ground, monkeypatch):
    from lib_finetune.errors import DivergedError
    from lib_finetune.training.loop import Trainer

    real = Trainer.loss
    monkeypatch.setattr(Trainer, "loss", lambda self, *args: real(self, *args) * float("nan"))
    with pytest.raises(DivergedError):
        ground.train("lora", 2)


def test_an_exchange_that_changes_a_bit_fails(ground, monkeypatch):
    calls = []

    def digest(tensors):
        calls.append(1)
        return dict.fromkeys(tensors, len(calls))

    monkeypatch.setattr(checks, "digest", digest)
    with pytest.raises(AssertionError, match="tensors differ"):
        checks.models_are_exchanged(ground)


def test_time_that_spans_have_in_common_counts_once():
    assert checks.covered([(0.0, 2.0), (1.0, 3.0), (5.0, 6.0), (5.2, 5.4)]) == 4.0


def test_the_bare_loop_trains_as_many_numbers_as_we_do_and_no_gradient_is_compared_as_zero(ground):
    assert "times as fast" in checks.speed_beside_a_bare_loop(ground, 1)
    assert "0.0 % of them zero" in checks.gradients_are_the_cpus(ground)
