"""Validation: images that are held out, the same measure every time, and the best state in the file."""

from contextlib import nullcontext

import pytest
import torch
from safetensors.torch import load_file

from lib_finetune.assembly import builder, dataset
from lib_finetune.errors import InputError
from lib_finetune.evaluation.validation import DRAWS, Validation
from tests.fakes.host import Recorder
from tests.fakes.runs import Bench, metadata, same, settings

HELD = {"data.held_out": "1", "training.validate_every": "1"}
WORD = {
    **HELD, "method": "textual_inversion", "name": "zxqcat", "optimizer.warmup": "0", "optimizer.schedule": "constant",
    "embedding.rate": "0.1",
}  # fmt: skip


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path, pictures=4)


def said(recorder):
    return [line for line in recorder.lines if "validation images, step" in line]


def test_the_best_state_is_remembered_and_lent():
    value = torch.nn.Parameter(torch.zeros(2))
    validation = Validation(2, lambda picture, draw: (value - 2).square().mean() + picture + draw, {"v": value}, 10)
    losses = []
    for step, now in ((1, 1.0), (2, 2.0), (3, float("nan")), (4, 5.0)):
        value.data.fill_(now)
        losses.append(validation.measure(step, nullcontext))
    assert losses[0] == pytest.approx(1 + 0.5 + (DRAWS - 1) / 2) and validation.best.step == 2
    with validation.applied():
        assert value.tolist() == [2, 2]
    assert value.tolist() == [5, 5]
    other = Validation(2, lambda *_: value.sum(), {"v": value}, 10)
    other.load_state(validation.state())
    assert (other.best.step, other.step) == (2, 4) and other.due(10, 99) and other.due(99, 99) and not other.due(11, 99)


def test_pictures_held_out_are_not_trained_on(bench):
    chosen = settings(bench.images, {"data.held_out": "1"})
    found = dataset.find(chosen)
    plan = builder.data_plan(chosen, found)
    shown = {plan.pictures[item.picture].name for step in range(40) for item in plan.items(step)}
    assert len(found.held) == 1 and found.held[0].name not in shown and len(shown) == found.views == 3


def test_the_same_state_gives_the_same_loss(bench):
    """Also with dropout, and captions that change from step to step: what differs is the state alone."""
    still = {"optimizer.unet_rate": "0.000000001", "optimizer.text_encoder_rate": "0.000000001"}
    lines = said(bench.run({**HELD, **still, "network.dropout": "0.5", "data.caption_dropout": "0.9"})[1])
    assert len(lines) == 4 and len({line.split(": ")[1][:6] for line in lines}) == 1


@pytest.mark.parametrize("method", ["lora", "textual_inversion", "pivotal_tuning", "dreambooth"])
def test_every_method_is_measured(bench, method):
    result, told, _ = bench.run({**HELD, "method": method, "name": "zxqcat"})
    assert len(said(told)) == 4 and result.outcome == "done" and not result.restoration.differences


def test_the_best_step_is_in_the_file(bench, monkeypatch):
    """Losses are planned: step 2 is the best, whatever was learned."""
    planned = iter([0.5, 0.1, 0.3, 0.4])
    real = Validation.measure

    def measure(self, step, turn):
        wanted = next(planned)
        self._loss = lambda *_: torch.tensor(wanted)
        return real(self, step, turn)

    monkeypatch.setattr(Validation, "measure", measure)
    result, told, host = bench.run({**WORD, "saving.every_steps": "1"})
    second = load_file(str(host.paths.embeddings / "zxqcat-000002.safetensors"))
    last = load_file(str(host.paths.embeddings / "zxqcat-000003.safetensors"))
    final = load_file(str(result.file))
    assert result.steps == 2 and same(final, second) and not same(final, last)
    assert metadata(result.file)["step"] == "2" and any("holds step 2" in line for line in told.lines)


def test_a_stopped_run_goes_on_to_the_same_file_and_losses(bench):
    straight, told, _ = bench.run(WORD, host=bench.host("straight"))
    stopped, first, host = bench.run(WORD, recorder=Recorder(stop_at=2))
    stopped.file.unlink()
    result, second, _ = bench.run(WORD, host=host)
    assert said(told) == said(first) + said(second) and straight.steps == result.steps
    assert same(load_file(str(straight.file)), load_file(str(result.file)))


def test_the_average_is_measured_where_it_is_saved(bench):
    changes = {**WORD, "training.ema_decay": "0.9"}
    assert said(bench.run(changes, host=bench.host("a"))[1]) != said(bench.run(WORD, host=bench.host("b"))[1])


def test_too_few_pictures_are_refused(bench):
    for count in ("2", "4"):
        with pytest.raises(InputError, match=r"data\.held_out") as caught:
            bench.run({"data.held_out": count})
        assert "Set it to 1 or less" in str(caught.value)
    (bench.images / "3.png").unlink()
    with pytest.raises(InputError, match="Set it to 0"):
        bench.run({"data.held_out": "1"})
    for name in ("1.png", "2.png"):
        (bench.images / name).unlink()
    assert dataset.find(settings(bench.images)).views == 1  # without it, any number will do
