"""What a card does otherwise than a processor, shown by small fakes: autocast, a parked autoencoder, fp16's overflow and its loss scaler."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lib_finetune.assembly import builder
from lib_finetune.errors import StepsSkippedError
from lib_finetune.export import embedding_file
from lib_finetune.jobs.status import _finite, _finite_points
from lib_finetune.model import sampling
from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.digest import digest
from lib_finetune.text.learned import first_values, ids_of
from lib_finetune.training.loss_log import MOST_SKIPPED, LossLog
from lib_finetune.training.precision import Precision
from tests.fakes.host import FakeHost, tiny_tensors
from tests.fakes.runs import Bench, same, tensors


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, pictures=1)


# -- what is compared with one another is computed alike ---------------------------------------------------------------


def test_an_untrained_model_has_no_prior_loss_where_a_caption_takes_two_chunks(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trigger alone lifts the caption over 75 tokens, so that the class's caption takes one chunk."""
    seen: list[torch.Tensor] = []
    compare = builder.Denoiser._compare

    def recorded(self: Any, prediction: torch.Tensor, target: torch.Tensor, *rest: Any) -> torch.Tensor:
        values = compare(self, prediction, target, *rest)
        seen.append(values.detach())
        return values

    monkeypatch.setattr(builder.Denoiser, "_compare", recorded)
    for picture in bench.images.glob("*.png"):
        picture.with_suffix(".txt").write_text("zxq zxq cat, " + "red " * 70)
    bench.run({"objective.prior": "prediction", "data.max_tokens": "150", "training.steps": "1"})
    assert seen[0].shape == (2,) and seen[0][1] < 1e-9 < seen[0][0]


def test_kept_norms_hold_for_the_average(bench: Bench) -> None:
    words = {"method": "textual_inversion", "name": "zxqcat", "embedding.vectors": "3", "optimizer.warmup": "0", "embedding.init": "car"}
    changes = {**words, "embedding.rate": "0.5", "embedding.keep_norm": "true", "training.ema_decay": "0.9", "training.steps": "6"}
    host = bench.host()
    table = tiny_tensors()["cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"]
    first = first_values(table, ids_of(host.text_tools().tokenizer, "car"), 3, 42)
    kept = embedding_file.read(bench.run(changes, host=host)[0].file)
    assert torch.allclose(kept.norm(dim=1), first.norm(dim=1), rtol=1e-4) and not torch.allclose(kept, first, atol=1e-3)


# -- latents that are encoded late -------------------------------------------------------------------------------------


class PartsHost(FakeHost):
    """Lends the parts that are asked for; once ``parks`` is set, the others lie in main memory, which here is nowhere."""

    parks = False

    @contextmanager
    def lease(self, wanted: Any = None, parts: Any = ("unet", "text", "vae"), *, alone: bool = False) -> Iterator[Any]:
        asked = tuple(parts)
        with super().lease(wanted, asked, alone=alone) as lease:
            if "vae" not in asked and self.parks:
                for name, tensor in lease.tensors.items():
                    if name.startswith("first_stage_model."):
                        lease.tensors[name] = tensor.to("meta")
            yield lease


@pytest.mark.parametrize("changes", [{}, {"data.held_out": "1", "training.validate_every": "1"}, {"training.accumulation": "2"}], ids=str)
def test_latents_that_the_cache_has_lost_are_encoded_apart_and_without_autocast(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]
) -> None:
    bench = Bench(bench.root / "four", pictures=4)
    small = {"training.steps": "2", "training.precision": "bf16", **changes}
    bind = builder.bind

    def bound(settings: Any, images: Any, host: PartsHost, *rest: Any, **more: Any) -> Any:
        assembly = bind(settings, images, host, *rest, **more)  # which reads the autoencoder's digest
        host.parks = True
        return assembly

    monkeypatch.setattr(builder, "bind", bound)
    usual = bench.run(small, host=PartsHost(bench.root / "usual"))[0]
    modes: list[bool] = []
    encode = builder.encode

    def recorded(model: BorrowedModel, pixels: torch.Tensor) -> Any:
        modes.append(torch.is_autocast_cpu_enabled())
        assert not model.vae.quant_conv.weight.is_meta
        return encode(model, pixels)

    monkeypatch.setattr(builder, "encode", recorded)
    monkeypatch.setattr("lib_finetune.data.cache.LatentCache.get", lambda *_: None)  # a disk that forgets at once
    monkeypatch.setattr("lib_finetune.data.cache.LatentCache.__contains__", lambda *_: True)
    late = bench.run(small, host=PartsHost(bench.root / "late"))[0]
    assert same(tensors(usual.file), tensors(late.file)) and modes and not any(modes)


# -- an autoencoder that overflows -------------------------------------------------------------------------------------


def halves(scale: float) -> tuple[BorrowedModel, dict[str, torch.Tensor]]:
    """The tiny model in bf16, whose encoder `overflowing` lets fail; and the weights as they are lent."""
    from lib_finetune.model.random_weights import small_layout

    weights = {name: (tensor * scale).to(torch.bfloat16) for name, tensor in tiny_tensors().items()}
    return BorrowedModel(small_layout()), weights


@contextmanager
def overflowing(model: BorrowedModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.dtype]]:
    """In 16 bits encoder and decoder give NaN, as that of SD1.5 does for some images."""
    dtypes: list[torch.dtype] = []
    for part in (model.vae.encoder, model.vae.decoder):
        forward = part.forward

        def fails(x: torch.Tensor, *rest: Any, own: Any = forward, **more: Any) -> torch.Tensor:
            dtypes.append(x.dtype)
            out = own(x, *rest, **more)
            return out if x.dtype == torch.float32 else out * float("nan")

        monkeypatch.setattr(part, "forward", fails)
    yield dtypes


def test_a_picture_that_overflows_in_16_bits_is_encoded_and_decoded_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    model, weights = halves(1.0)
    before, pixels = digest(weights), torch.rand(1, 3, 64, 64) * 2 - 1
    with model.bound(weights), overflowing(model, monkeypatch) as dtypes:
        mean, std = sampling.encode(model, pixels)
        with torch.no_grad():
            picture = sampling.decode(model, mean, 0.18215)
        bound = [slot.module._parameters[slot.leaf] for slot in model.slots]
        lent = {tensor.data_ptr() for tensor in weights.values()}
        assert all(parameter.dtype == torch.bfloat16 and parameter.data_ptr() in lent for parameter in bound)
    assert dtypes == [torch.bfloat16, torch.float32] * 2 and mean.isfinite().all() and std.isfinite().all()
    assert picture.size == (64, 64) and digest(weights) == before


def test_the_weights_are_the_hosts_again_after_an_error_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    model, weights = halves(1.0)

    def broken(_: Any) -> Any:
        raise RuntimeError("out of memory")

    with model.bound(weights):
        monkeypatch.setattr(model.vae, "encode", broken)
        with pytest.raises(RuntimeError, match="out of memory"), model.in_float32(model.vae.encoder):
            sampling.encode(model, torch.zeros(1, 3, 64, 64))
        assert all(parameter.dtype == torch.bfloat16 for parameter in model.vae.parameters())


# -- the loss scaler of fp16 -------------------------------------------------------------------------------------------


class Scaler:
    """What torch's does, without a card: scales, looks for infinities, skips, halves."""

    def __init__(self, largest: float) -> None:
        self.scale_, self._largest, self._bad = 65536.0, largest, False

    def scale(self, loss: torch.Tensor) -> torch.Tensor:
        return loss * self.scale_

    def unscale_(self, optimizer: torch.optim.Optimizer) -> None:
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        self._bad = self.scale_ > self._largest
        for gradient in gradients:
            gradient.mul_(float("inf") if self._bad else 1 / self.scale_)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        if not self._bad:
            optimizer.step()

    def update(self) -> None:
        self.scale_ *= 0.5 if self._bad else 1.0

    def state_dict(self) -> dict[str, float]:
        return {"scale": self.scale_}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.scale_ = state["scale"]


@pytest.fixture
def scaled(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Computes as on a card that has fp16 only; the scaler skips while its scale is above ``largest``."""

    def put(largest: float) -> None:
        def choose(*_: Any) -> Precision:
            chosen = Precision(torch.float32, torch.float32, torch.device("cpu"))
            chosen._scaler = Scaler(largest)
            return chosen

        monkeypatch.setattr(builder.precision, "choose", choose)

    return put


def test_the_search_for_a_scale_puts_no_infinity_into_the_status(bench: Bench, scaled: Any) -> None:
    scaled(65536.0 / 2**12)  # the first ten steps, which are told of together, are all skipped
    _, told, _ = bench.run({"training.steps": "14"})
    assert "gradient norm" in told.reports[-1].scalars
    for report in told.reports:
        json.dumps(dict(report.scalars), allow_nan=False)


def test_nothing_that_is_not_finite_is_answered() -> None:
    assert _finite({"a": 1.0, "b": math.inf, "c": math.nan}) == {"a": 1.0}
    assert _finite_points([(1, 0.5), (2, math.nan), (3, -math.inf)]) == [(1, 0.5)]


@pytest.mark.parametrize("steps", [4, 60])
def test_a_scaler_that_always_skips_ends_the_run_and_nothing_untrained_is_written(bench: Bench, scaled: Any, steps: int) -> None:
    scaled(0.0)
    host = bench.host()
    with pytest.raises(StepsSkippedError, match="nothing was learned"):
        bench.run({"training.steps": str(steps)}, host=host)
    assert not list(bench.root.rglob("cat.safetensors")) and host.restoration().differences == ()


def test_a_run_that_is_stopped_while_the_scale_is_looked_for_has_nothing_to_write(bench: Bench, scaled: Any) -> None:
    from tests.fakes.host import Recorder

    scaled(0.0)
    result, told, _ = bench.run({"training.steps": "30"}, recorder=Recorder(stop_at=3))
    assert result.file is None and "there is nothing to write" in told.lines[-2]


def test_skipped_steps_count_from_the_last_that_moved_and_over_a_resumption() -> None:
    def log() -> LossLog:
        return LossLog({"p": torch.nn.Parameter(torch.zeros(1))}, 500, False, lambda _: None)

    def note(to: LossLog, norm: float, count: int) -> None:
        for _ in range(count):
            to.note(torch.tensor(0.5), torch.tensor(norm), {"unet": 1e-4})

    first = log()
    first.begin(0)
    note(first, math.inf, MOST_SKIPPED - 1)
    note(first, 1.0, 1)
    note(first, math.nan, MOST_SKIPPED - 10)
    first.fetch()
    assert first.learned
    second = log()
    second.load_state(first.state(), proven=True)
    second.begin(90)
    with pytest.raises(StepsSkippedError, match=str(MOST_SKIPPED)):
        note(second, math.inf, 10)
    fresh = log()
    fresh.load_state({}, proven=True)  # of a version that did not count
    assert fresh.learned and SimpleNamespace(**first.state()).skipped == MOST_SKIPPED - 10
