"""Memory of a card, shown by small fakes: what is done when it ends, what is given back, and what is counted before."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from lib_finetune.config import codec
from lib_finetune.config.fields import replaced
from lib_finetune.config.settings import Settings
from lib_finetune.errors import OutOfMemoryError, is_out_of_memory
from lib_finetune.estimates import memory_plan, method_costs
from lib_finetune.estimates.memory_model import GIB
from lib_finetune.estimates.memory_plan import Weights
from lib_finetune.host import memory
from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.random_weights import sd15_layout
from lib_finetune.ports.events import StepReport
from lib_finetune.ports.pictures import PICTURE_BYTES, PictureRequest, picture_bytes
from lib_finetune.runs.class_images import ClassPictures
from lib_finetune.runs.pace import Pace
from lib_finetune.training.methods.dreambooth import DreamBoothMethod
from lib_finetune.training.methods.lora import LoraMethod
from tests.fakes.host import FakeHost
from tests.fakes.runs import Bench, same, tensors

CUDA = torch.device("cuda")
NO_ROOM = (
    "CUDA out of memory. Tried to allocate 20.00 MiB",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, pictures=1)


@pytest.mark.parametrize("words", NO_ROOM)
def test_every_way_in_which_a_card_says_that_it_is_full_is_known(words: str) -> None:
    assert is_out_of_memory(RuntimeError(words))


# -- the first step ----------------------------------------------------------------------------------------------------


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Losses of LoRA and DreamBooth find no room without gradient checkpointing; lists the steps that failed."""
    failed: list[int] = []
    for kind in (LoraMethod, DreamBoothMethod):
        loss = kind.loss

        def checked(self: Any, batch: Any, generator: torch.Generator, own: Any = loss) -> Any:
            if not self._denoiser._unet.is_gradient_checkpointing:
                failed.append(1)
                raise RuntimeError(NO_ROOM[len(failed) % len(NO_ROOM)])
            return own(self, batch, generator)

        monkeypatch.setattr(kind, "loss", checked)
    return failed


@pytest.mark.parametrize("changes", [{}, {"method": "dreambooth"}, {"network.dropout": "0.5"}], ids=str)
def test_a_first_step_without_room_is_tried_once_more_with_checkpointing(bench: Bench, full: list[int], changes: dict[str, str]) -> None:
    small = {"training.steps": "2", **changes}
    host = bench.host("short")
    result, told, _ = bench.run(small, host=host)
    assert full == [1] and any("gradient checkpointing is on now" in line for line in told.lines)
    usual = bench.run({**small, "training.gradient_checkpointing": "true"}, host=bench.host("usual"))[0]
    assert same(tensors(result.file), tensors(usual.file)) and not result.restoration.differences
    assert '"gradient_checkpointing": true' in next((host.paths.data / "runs" / "run").glob("settings*.json")).read_text()


def test_where_checkpointing_is_on_already_the_error_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError(NO_ROOM[0])

    monkeypatch.setattr(LoraMethod, "loss", fails)
    with pytest.raises(OutOfMemoryError):
        bench.run({"training.gradient_checkpointing": "true"})


def test_a_later_step_without_room_ends_the_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    loss, calls = LoraMethod.loss, []

    def later(self: Any, batch: Any, generator: torch.Generator) -> Any:
        calls.append(1)
        if len(calls) > 2:
            raise RuntimeError(NO_ROOM[0])
        return loss(self, batch, generator)

    monkeypatch.setattr(LoraMethod, "loss", later)
    with pytest.raises(OutOfMemoryError):
        bench.run()


# -- what holds memory -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chained", [False, True])
def test_the_frames_of_a_failed_step_are_cleared_before_the_host_has_its_turn(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, chained: bool
) -> None:
    alive: list[bool] = []
    held: list[weakref.ref[torch.Tensor]] = []

    class Watching(FakeHost):
        @contextmanager
        def lease(self, *args: Any, **how: Any) -> Iterator[Any]:
            try:
                with super().lease(*args, **how) as lease:
                    yield lease
            finally:
                alive.extend(reference() is not None for reference in held)

    def inner() -> None:
        activations = torch.zeros(8)
        held.append(weakref.ref(activations))
        raise RuntimeError(NO_ROOM[0])

    def fails(*_: Any) -> Any:
        try:
            inner()
        except RuntimeError as error:
            if chained:
                raise ValueError("a kernel failed") from error
            raise

    monkeypatch.setattr(LoraMethod, "loss", fails)
    with pytest.raises((OutOfMemoryError, ValueError)):
        bench.run({"training.gradient_checkpointing": "true"}, host=Watching(bench.root / "host"))
    assert alive and not any(alive)


@pytest.fixture
def emptied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """`torch.cuda` of a card with so many bytes left by the driver; counts how often the cache is emptied."""
    calls: list[int] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append(1))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (GIB, 8 * GIB))
    return calls


@pytest.mark.parametrize(("device", "need", "times"), [("cuda", 2 * GIB, 1), ("cuda", GIB // 2, 0), ("cpu", 2 * GIB, 0)])
def test_the_cache_is_emptied_at_hand_over_where_the_driver_is_short(emptied: list[int], device: str, need: int, times: int) -> None:
    memory.hand_over(torch.device(device), need)
    assert len(emptied) == times


def test_a_host_hands_over_and_gives_all_back_at_the_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(memory, "hand_over", lambda _device, need: calls.append(f"hand over {need}"))
    monkeypatch.setattr(memory, "let_go_of_all", lambda _: calls.append("all"))
    bench.run({"training.steps": "1"})
    assert calls[-1] == "all" and f"hand over {PICTURE_BYTES}" in calls


# -- class images ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 3])
def test_class_images_fall_back_from_four_at_once_to_one(bench: Bench, most: int) -> None:
    asked: list[int] = []

    class Small:
        def make_batch(self, request: PictureRequest, count: int) -> list[Image.Image]:
            asked.append(count)
            if count > most:
                raise OutOfMemoryError("No room on the device.") if most == 1 else RuntimeError(NO_ROOM[1])
            return [Image.new("RGB", (8, 8), (request.seed + place, 0, 0)) for place in range(count)]

    host, lines = bench.host(), []
    classes = ClassPictures(Small(), host.paths.data, host.checkpoint(), "a photo of cat", 64)
    assert classes.make(6, lambda *_: None, lines.append, lambda: False)
    assert asked == [4, 1, 1, 1, 1, 1, 1] and sum("one at a time" in line for line in lines) == 1
    shades = [Image.open(classes.folder / f"{number:05d}.png").getpixel((0, 0))[0] for number in range(1, 7)]
    assert shades == [1, 2, 3, 4, 5, 6]  # an image's number is its seed, however many were made at once


def test_one_class_image_without_room_ends_it(bench: Bench) -> None:
    def make_batch(*_: Any) -> Any:
        raise OutOfMemoryError("No room on the device.")

    host = bench.host()
    classes = ClassPictures(SimpleNamespace(make_batch=make_batch), host.paths.data, host.checkpoint(), "a photo of cat", 64)
    with pytest.raises(OutOfMemoryError):
        classes.make(6, lambda *_: None, lambda _: None, lambda: False)


# -- what is counted ---------------------------------------------------------------------------------------------------

COUNTS = {"unet": 859_520_964, "text": 123_060_480}
NOTHING = {"unet": 0, "text": 0, "vae": 0}
HALF = {"unet": 2 * COUNTS["unet"], "text": 2 * COUNTS["text"], "vae": 167_000_000}


def of(**changes: Any) -> Settings:
    return codec.with_values(
        Settings(), {"name": "zxqcat", **{path.replace("__", "."): str(value) for path, value in changes.items()}}.items()
    )


@pytest.fixture(scope="module")
def view() -> BorrowedModel:
    return BorrowedModel(sd15_layout())


def need(settings: Settings, weights: Weights, view: BorrowedModel) -> int:
    facts = method_costs.ModelFacts(view, weights, 0, {})
    return memory_plan.need_of_patches(settings, weights, method_costs.patches_of(settings, facts), CUDA)


@pytest.fixture(autouse=True)
def computes_fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib_finetune.training.precision.lacks_fp16", lambda _: False)


def test_guests_casts_and_whole_changes_count(view: BorrowedModel) -> None:
    usual = need(of(), Weights(COUNTS, HALF, NOTHING), view)
    medvram = need(of(), Weights(COUNTS, NOTHING, HALF), view)
    assert medvram - usual == pytest.approx(1.1 * (HALF["unet"] + HALF["text"]), rel=0.01)
    no_half = need(of(), Weights(COUNTS, HALF, NOTHING, frozenset({"unet", "text"})), view)
    assert no_half - usual == pytest.approx(1.1 * 2 * sum(COUNTS.values()), rel=0.01)
    loha = need(of(network__adapter="loha", network__rank=2), Weights(COUNTS, HALF, NOTHING), view)
    assert loha - usual > 1.1 * 6 * 2e8
    large = need(of(network__rank=128), Weights(COUNTS, HALF, NOTHING), view)
    assert large > usual > 0.3 * GIB
    lion, prodigy = (
        need(of(network__rank=128, optimizer__name=name), Weights(COUNTS, HALF, NOTHING), view) for name in ("lion", "prodigy")
    )
    assert lion < large < prodigy
    still = need(of(method="textual_inversion"), Weights(COUNTS, HALF, NOTHING), view)
    assert still < usual


def test_checkpointing_is_chosen_by_all_of_it(view: BorrowedModel) -> None:
    weights = Weights(COUNTS, NOTHING, HALF)
    settings = of()
    patches = method_costs.patches_of(settings, method_costs.ModelFacts(view, weights, 0, {}))
    enough = need(settings, weights, view)
    for free, on in ((enough, False), (enough - 1, True)):
        chosen, notes = memory_plan.choose_checkpointing(settings, weights, patches, CUDA, free)
        assert (chosen.training.gradient_checkpointing, bool(notes)) == (on, on)
    assert need(replaced(settings, "training.gradient_checkpointing", True), weights, view) < enough


def test_a_picture_counts_its_batch_its_size_and_a_float32_autoencoder() -> None:
    assert picture_bytes() == PICTURE_BYTES and picture_bytes(count=4) == PICTURE_BYTES
    assert picture_bytes(float32_vae=True) == 2 * PICTURE_BYTES and picture_bytes(1024) == 4 * PICTURE_BYTES
    assert picture_bytes(count=16) > PICTURE_BYTES and picture_bytes(count=16, float32_unet=True) == 2 * picture_bytes(count=16)


def test_the_room_for_previews_knows_them() -> None:
    settings = of(method="dreambooth", preview__count=16)
    usual = memory_plan._room(of(method="dreambooth"), Weights(COUNTS, HALF, NOTHING), CUDA, 0, 0).picture
    batch = memory_plan._room(settings, Weights(COUNTS, HALF, NOTHING), CUDA, 0, 0).picture
    single = memory_plan._room(of(method="dreambooth"), Weights(COUNTS, HALF, NOTHING, frozenset({"vae"})), CUDA, 0, 0).picture
    assert usual == PICTURE_BYTES and batch == picture_bytes(512, 16) and single == 2 * PICTURE_BYTES


# -- the pace ----------------------------------------------------------------------------------------------------------


def test_steps_that_take_three_times_the_forecast_are_said_once() -> None:
    lines: list[str] = []
    pace = Pace(0.5, lines.append)

    def report(seconds: float) -> None:
        pace.steps(StepReport(10, 100, (0.1,) * 10, {}, seconds * 10, {}))

    for seconds in (1.6, 1.6, 1.4, 1.6, 1.6):  # an image that somebody makes meanwhile
        report(seconds)
    assert not lines
    for _ in range(4):
        report(1.6)
    assert len(lines) == 1 and "1.6 s, and 0.5 were expected" in lines[0]


def test_a_run_on_a_device_whose_speed_is_known_watches_its_pace(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from lib_finetune.estimates import speed_history

    monkeypatch.setattr(speed_history, "estimate", lambda *_: speed_history.Speed(1e-9, "measured"))
    told = bench.run({"training.steps": "31"})[1]
    assert sum("were expected" in line for line in told.lines) == 1
