"""What the person presses is answered within two seconds or one step, in every stage of a run and of what is made between runs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import pytest

from lib_finetune.app import grid_images
from lib_finetune.app.grid_images import Column, Look, Row
from lib_finetune.assembly import builder
from lib_finetune.data.batches import Batches
from lib_finetune.errors import PictureInterruptedError
from lib_finetune.evaluation import validation
from lib_finetune.export import extraction
from lib_finetune.host.headless.pictures import HeadlessPictures
from lib_finetune.runs import painting, saved_states
from lib_finetune.runs.artifacts import Artifacts
from lib_finetune.training.loop import Trainer
from tests.fakes.host import FakeHost, Recorder
from tests.fakes.pictures import draw
from tests.fakes.runs import Bench, same, tensors

STEP_S = 0.02
ANSWER_S = 2.0
PAINTED = {"preview.enabled": "true", "preview.every": "2", "preview.steps": "150", "preview.count": "16"}
WHOLE = {"method": "dreambooth", "data.trigger": "sks"}


@dataclass(frozen=True)
class Stage:
    """Where a control is pressed: the name of a stage, how often it was shown by then, and settings in which it takes long."""

    name: str
    changes: dict[str, str] = field(default_factory=dict)
    shown: int = 3
    after: str = ""
    """Another stage that must have been before."""
    written: bool = False
    """Whether a stop there leaves a file."""
    rest_s: float = 0.0
    """How long the run stays there at least once it is pressed."""


ANSWERS = (
    "Nothing is trained yet",
    "Save now was pressed",
    "Preview now was pressed",
    "The steps have ended",
    "The training has not resumed yet",
)
STAGES = {
    "pictures": Stage("pictures"),
    "class images": Stage("class images", {"data.class_count": "40", "objective.prior": "pictures"}, shown=1),
    "latents": Stage("cache"),
    "base": Stage("preview", PAINTED),
    "train": Stage("train", {"training.steps": "2000"}, shown=1),
    "preview of a step": Stage("preview", {**PAINTED, "training.steps": "2000"}, after="train", written=True),
    "validation": Stage("measure", {"data.held_out": "4", "training.validate_every": "2", "training.steps": "2000"}, written=True),
    "preview of the result": Stage("preview", {**PAINTED, "preview.every": "100"}, after="verify", written=True),
    "the card's image": Stage("preview", {**PAINTED, "preview.every": "0"}, after="verify", written=True),
    "the LoRA of a checkpoint": Stage("save", {**WHOLE, "tuning.lora_rank": "2", "training.steps": "1"}, after="verify", written=True),
}


RESTING = ("pictures", "class images", "latents", "base", "preview of a step", "validation", "the card's image")


class SlowHost(FakeHost):
    """Samples a step at a time, as hosts do."""

    sampled = 0

    def paint(self, request, count):
        for step in range(request.steps):
            request.on_step(step, request.steps)
            if request.interrupt_asked():
                raise PictureInterruptedError("left unfinished")
            time.sleep(STEP_S)
            SlowHost.sampled += 1
        return super().paint(request, count)


class Pressing(Recorder):
    """Presses a control when a stage is shown for the third time; remembers when."""

    def __init__(self, stage, button):
        super().__init__()
        self.wanted, self.button, self.pressed_at, self.paused_at = stage, button, 0.0, 0.0
        self.saved_at = self.left_at = self.answered_at = 0.0
        self.answer, self.done_at = "", {"save": 0.0, "preview": 0.0}
        self.sampled_then = 0

    def stage(self, name, done=0, total=0):
        super().stage(name, done, total)
        there = not self.wanted.after or self.wanted.after in self.stages
        if name == self.wanted.name and there and self.stages.count(name) >= self.wanted.shown and not self.pressed_at:
            self.pressed_at = time.monotonic()
            self.sampled_then = SlowHost.sampled
            time.sleep(self.wanted.rest_s)
        if self.pressed and name != self.wanted.name:
            self.left_at = self.left_at or time.monotonic()
        if name == "paused":
            self.paused_at = self.paused_at or time.monotonic()
        if name == "save" and self.pressed_at:
            self.saved_at = self.done_at["save"] = self.saved_at or time.monotonic()

    def previewed(self, row):
        super().previewed(row)
        if self.pressed:
            self.done_at["preview"] = self.done_at["preview"] or time.monotonic()

    def say(self, message):
        super().say(message)
        if self.pressed and not self.answer and message.startswith(ANSWERS):
            self.answer, self.answered_at = message, time.monotonic()
            self.button = "answered" if message.startswith("Nothing is trained yet") else self.button

    @property
    def pressed(self):
        return self.pressed_at > 0

    def stop_asked(self):
        return self.pressed and self.button in ("stop", "discard", "answered")

    def discard_asked(self):
        return self.pressed and self.button in ("discard", "answered")

    def pause_asked(self):
        return self.pressed and self.button == "pause" and not (self.paused_at and time.monotonic() - self.paused_at > 0.3)

    def save_asked(self):
        return self._once("save")

    def preview_asked(self):
        return self._once("preview")

    def _once(self, button):
        if self.pressed and self.button == button:
            self.button = ""
            return True
        return False


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """With steps of some length everywhere."""

    def slow(function):
        def slower(*args, **kwargs):
            time.sleep(STEP_S)
            return function(*args, **kwargs)

        return slower

    monkeypatch.setattr(validation, "DRAWS", 40)
    monkeypatch.setattr(extraction, "_factors", slow(extraction._factors))
    bench = Bench(tmp_path, pictures=12)
    bench.run(
        {"training.steps": "1", "name": "first"}, host=bench.host("warm"), folder="warm"
    )  # what only the first run of a process takes
    return bench


def run(bench, stage, button):
    recorder = Pressing(stage, button)
    result, _, host = bench.run({"training.steps": "4", "data.disk_cache": "false", **stage.changes}, host=SlowHost(bench.root / button),
                                recorder=recorder)  # fmt: skip
    assert recorder.pressed
    return result, recorder, host


@pytest.mark.parametrize(("name", "button"), [*((name, "stop") for name in STAGES), ("train", "discard"), ("preview of a step", "discard")])
def test_a_stop_ends_the_run(bench, name, button):
    stage = STAGES[name]
    result, recorder, _ = run(bench, stage, button)
    left_at = recorder.left_at or time.monotonic()
    assert left_at - recorder.pressed_at < ANSWER_S and SlowHost.sampled - recorder.sampled_then <= 1
    complete = stage.after == "verify"
    kept = stage.written and (complete or button == "stop")
    assert bool(result.file) == kept and (result.file is None or result.file.is_file())


@pytest.mark.parametrize("name", RESTING)
def test_a_pause_rests_and_then_the_run_goes_on(bench, name):
    stage = STAGES[name]
    changes = {key: value for key, value in stage.changes.items() if key not in ("preview.count", "training.steps")}
    quick = Stage(stage.name, {**changes, **({"preview.steps": "30"} if "preview.steps" in changes else {})}, stage.shown, stage.after)
    result, recorder, _ = run(bench, quick, "pause")
    assert 0 < recorder.paused_at - recorder.pressed_at < ANSWER_S and result.outcome == "done"


def test_a_save_is_answered_while_a_preview_is_painted(bench):
    stage = Stage("preview", {**PAINTED, "preview.steps": "60", "preview.count": "1"}, after="train")
    result, recorder, _ = run(bench, stage, "save")
    assert recorder.saved_at - recorder.pressed_at < ANSWER_S and [step for step, _ in recorder.kept] == [2]
    assert result.outcome == "done" and [row.step for row in recorder.rows] == [0, 2, 4]


def test_a_stop_of_before_leaves_a_little_time_for_the_result_and_no_more(bench, monkeypatch):
    monkeypatch.setattr(painting, "AFTER_STOP_S", 0.5)
    long, short = ({**PAINTED, "preview.every": "100", "preview.count": "1", "preview.steps": steps} for steps in ("150", "5"))
    for changes, pictures in ((long, 0), (short, 1)):
        stage = Stage("train", {**changes, "training.steps": "300", "name": f"cat{pictures}"}, shown=1)
        recorder = Recorder(stop_at=2)
        host = SlowHost(bench.root / f"host{pictures}")
        result, _, _ = bench.run(stage.changes, host=host, recorder=recorder)
        assert result.outcome == "stopped" and result.file.with_suffix(".png").is_file() == bool(pictures)


def test_a_picture_that_rested_is_the_same(bench):
    changes = {**PAINTED, "preview.count": "1", "preview.steps": "6", "preview.every": "2"}

    class Painting(FakeHost):
        def paint(self, request, count):
            return HeadlessPictures.make_batch(self.pictures, request, count)

    class Resting(Pressing):
        pass

    straight = bench.run(changes, host=Painting(bench.root / "straight"))
    rested = bench.run(changes, host=Painting(bench.root / "rested"), recorder=Resting(Stage("preview", after="train"), "pause"))
    assert "paused" in rested[1].stages and same(tensors(straight[0].file), tensors(rested[0].file))
    last = straight[1].rows[-1].files[0]
    paths = [host.paths.data / "runs" / "run" / last for _, _, host in (straight, rested)]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_the_persons_interrupt_spoils_no_class_image_and_does_not_end_the_run(bench):
    class Interrupted(FakeHost):
        once = True

        def paint(self, request, count):
            if self.once:
                self.once = False
                raise PictureInterruptedError("the person pressed Interrupt")
            return super().paint(request, count)

    result, _, host = bench.run({"data.class_count": "3", "objective.prior": "pictures"}, host=Interrupted(bench.root / "host"))
    assert result.outcome == "done" and len(list((host.paths.data / "classes").rglob("*.png"))) == 3


LONG_S = 2.5
"""More than an answer may take."""
BEFORE = {
    "pictures": Stage("pictures", rest_s=LONG_S / 4),  # on a fast machine it is over before anyone could be answered
    **{name: STAGES[name] for name in ("class images", "base")},
    "latents": Stage("cache", shown=1),
    "a batch of class images": Stage("class images", {"data.class_count": "4", "objective.prior": "pictures"}, shown=1),
    "borrowing": Stage("bind", shown=1),
}
DURING = {
    "a long step": Stage("train", shown=1),
    "validation": Stage("measure", {"data.held_out": "1", "training.validate_every": "2"}, shown=1),
    "preview of a step": Stage("preview", {**PAINTED, "preview.count": "4", "preview.steps": "30"}, after="train", shown=2),
    "a state": Stage("save a state", {"saving.state_every": "2"}, shown=1),
}
AFTER = {
    "the result": Stage("save", shown=1),
    "verification": Stage("verify", shown=1),
    "preview of the result": Stage("preview", {**PAINTED, "preview.every": "100", "preview.count": "4"}, after="verify", shown=2),
    "giving back": Stage("give back", shown=1),
}


@pytest.fixture
def lengthy(bench, monkeypatch):
    """What has no steps of its own takes longer than an answer may."""

    def delayed(place, name):
        function, waits = getattr(place, name), [True]

        def slower(*args, **kwargs):
            if waits:
                waits.clear()
                time.sleep(LONG_S)
            return function(*args, **kwargs)

        monkeypatch.setattr(place, name, slower)

    def state(session, *args, **kwargs):
        session.sink.stage("save a state")
        time.sleep(LONG_S)
        return written(session, *args, **kwargs)

    written = saved_states.save
    return {
        "borrowing": lambda: delayed(builder, "bind"),
        "latents": lambda: delayed(Batches, "encode_variant"),
        "a long step": lambda: delayed(Trainer, "_one_step"),
        "a state": lambda: monkeypatch.setattr(saved_states, "save", state),
        "the result": lambda: delayed(Artifacts, "write_result"),
        "verification": lambda: delayed(Artifacts, "verify"),
        "giving back": lambda: delayed(SlowHost, "restoration"),
    }


@pytest.mark.parametrize("button", ["save", "preview"])
@pytest.mark.parametrize(
    ("when", "name"),
    [(when, name) for when in (BEFORE, DURING, AFTER) for name in when],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_press_of_save_or_preview_is_answered_in_every_stage(bench, lengthy, when, name, button):
    stage = when[name]
    lengthy.get(name, lambda: None)()
    result, recorder, _ = run(bench, stage, button)
    assert result.outcome == ("discarded" if when is BEFORE else "done")
    done = [at for at in (recorder.answered_at, recorder.done_at[button] if when is DURING else 0.0) if at]
    assert done and min(done) - recorder.pressed_at < ANSWER_S
    if when is BEFORE:
        assert recorder.answer.startswith("Nothing is trained yet") and not recorder.kept and not recorder.rows[1:]
    if when is AFTER:
        assert recorder.answer.startswith("The steps have ended") and not recorder.kept
    if when is DURING:
        assert [step for step, _ in recorder.kept if button == "save"] or [row.step for row in recorder.rows if button == "preview"]


@pytest.mark.parametrize("button", ["save", "preview"])
@pytest.mark.parametrize("name", ["pictures", "latents", "borrowing"])
def test_of_a_run_that_resumes_it_is_done_once_it_has_resumed(bench, lengthy, name, button):
    changes = {"training.steps": "4", "data.disk_cache": "false", "data.caption_dropout": "0"}
    host = SlowHost(bench.root / button)
    _, recorder, _ = bench.run(changes, host=host, recorder=Recorder(stop_at=2))
    for file in host.paths.lora.glob("cat*"):
        file.unlink()
    lengthy.get(name, lambda: None)()
    recorder = Pressing(BEFORE[name], button)
    result, _, _ = bench.run(changes, host=host, recorder=recorder)
    assert result.outcome == "done" and recorder.answered_at - recorder.pressed_at < ANSWER_S
    assert recorder.answer.startswith("The training has not resumed yet")
    assert [step for step, _ in recorder.kept] == [3] if button == "save" else [row.step for row in recorder.rows][-1] == 3


@pytest.mark.parametrize("button", ["save", "preview"])
def test_while_the_run_waits_for_its_checkpoint_a_press_is_answered_and_kept(bench, monkeypatch, button):
    monkeypatch.setattr("lib_finetune.training.turns.Turns.__init__.__defaults__", (0.0,))
    host = SlowHost(bench.root / "waits")

    class Waiting(Pressing):
        def stage(self, name, done=0, total=0):
            super().stage("waiting" if name.startswith("waiting for") else name, done, total)
            if name == "train" and not self.pressed:
                host.load_other("other")

        def load_asked(self):
            return bool(self.answer)

    recorder = Waiting(Stage("waiting", shown=1), button)
    result, _, _ = bench.run({"training.steps": "4"}, host=host, recorder=recorder)
    assert result.outcome == "done" and recorder.answered_at - recorder.pressed_at < ANSWER_S
    assert recorder.kept if button == "save" else recorder.rows


@pytest.mark.parametrize("row", ["a photo of zxq cat", "zxq"])
def test_a_grid_and_a_trial_of_the_word_stop_between_sampling_steps(tmp_path, row):
    host, began = SlowHost(tmp_path), []

    def stop_asked():
        began.append(time.monotonic())
        return len(began) > 4

    before = SlowHost.sampled
    image = grid_images.make(host.pictures, [Column("base", {})], [Row(row, 1)], Look(64, 150), "zxq", lambda *_: None, stop_asked)
    assert image is None and SlowHost.sampled - before <= 4


def test_a_forecast_stops_while_pictures_are_looked_at(tmp_path):
    from lib_finetune.estimates import trial
    from tests.fakes.runs import settings

    draw(tmp_path / "pictures", 6)
    assert trial.probe(settings(tmp_path / "pictures"), FakeHost(tmp_path / "host"), lambda: None, lambda: True) is None


@pytest.mark.parametrize("button", ["save", "preview"])
def test_a_job_that_waits_for_its_turn_answers_at_once(tmp_path, button):
    from lib_finetune.jobs.job import Job
    from tests.fakes.runs import settings

    (tmp_path / "run").mkdir()
    job = Job(settings(tmp_path), tmp_path / "run")
    job.press(button)
    assert f"{button.capitalize()} now is answered once it runs" in job.progress.lines[-1]
    assert (job.control.save_asked(), job.control.preview_asked()) == (button == "save", button == "preview")
