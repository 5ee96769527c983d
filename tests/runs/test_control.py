"""A job's buttons and status: pause and go on, preview and save now, curves, points, previews."""

import time

import pytest

from lib_finetune.errors import HostError
from lib_finetune.jobs.job import Job
from lib_finetune.jobs.queue import Jobs
from lib_finetune.jobs.states import ACTIVE
from lib_finetune.jobs.status import status_of
from lib_finetune.ports.events import PreviewRow, StepReport
from lib_finetune.runs.folder import STATE
from lib_finetune.runs.runner import Runner
from lib_finetune.training import state
from tests.fakes.host import FakeHost, Recorder
from tests.fakes.runs import Bench, same, settings, tensors

LONG = {"training.steps": "8", "network.dropout": "0.1"}


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def until(true, seconds=120):
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert true()


class Pausing(Recorder):
    """Pauses after a step; ``during`` runs while it is paused, and its end is the end of the pause."""

    def __init__(self, after, during=lambda recorder: None, **how):
        super().__init__(**how)
        self.after, self.during, self.paused = after, during, 0

    def pause_asked(self):
        return self.polls >= self.after and not self.paused and "train" in self.stages

    def stage(self, name, done=0, total=0):
        super().stage(name)
        if name == "paused":
            self.during(self)
            self.paused += 1


def test_a_paused_run_goes_on_to_the_same_file(bench):
    straight = bench.run(LONG, host=bench.host("straight"))
    paused = bench.run(LONG, recorder=Pausing(3))
    assert paused[1].paused == 1 and paused[1].losses == straight[1].losses
    assert same(tensors(paused[0].file), tensors(straight[0].file))


def test_while_paused_no_turn_is_held_and_the_state_is_saved_once(bench, monkeypatch):
    host, saved, turns = bench.host(), [], []
    monkeypatch.setattr(state, "save", lambda path, value: saved.append(value["trainer"]["step"]))

    def during(recorder):
        turns.append(host.turns)
        assert not host.lock.locked() and saved == [3] and any("Paused at step 3" in line for line in recorder.lines)

    class Resting(Pausing):
        def pause_asked(self):
            return self.polls >= 3 and self.paused < 3

    recorder = Resting(3, during)
    bench.run({**LONG, "saving.states": "none"}, host=host, recorder=recorder)
    assert recorder.paused == 3 and len(set(turns)) == 1 and saved == [3]


def test_stop_works_while_paused(bench):
    class Leaving(Pausing):
        def pause_asked(self):
            return self.polls >= 3

        def stop_asked(self):
            return super().stop_asked() or self.paused > 0

    result, _, host = bench.run(LONG, recorder=Leaving(3))
    assert result.outcome == "stopped" and result.steps == 3 and (host.paths.data / "runs" / "run" / STATE).exists()


def test_a_pause_while_pictures_are_encoded_holds_no_turn_either(bench):
    host = bench.host()

    class Early(Pausing):
        def pause_asked(self):
            return "cache" in self.stages and not self.paused

    held = []
    recorder = Early(0, lambda _: held.append(host.lock.locked()))
    result, _, _ = bench.run(LONG, host=host, recorder=recorder)
    assert held == [False] and recorder.stages.index("paused") < recorder.stages.index("train") and result.outcome == "done"


def test_time_paused_does_not_count_as_training(bench):
    recorder = Pausing(3, lambda _: time.sleep(1.5))
    bench.run(LONG, recorder=recorder)
    assert len(recorder.reports) > 1 and recorder.reports[-1].seconds < 1.5


def test_a_press_saves_the_file_of_that_step_and_keeps_it(bench):
    recorder = Recorder()
    recorder.presses = {"save": 3}
    _, told, host = bench.run({**LONG, "saving.every_steps": "4", "saving.keep": "1"}, recorder=recorder)
    assert sorted(path.stem for path in host.paths.lora.glob("*.safetensors")) == ["cat", "cat-000003", "cat-000004"]
    assert [step for step, _ in told.kept] == [3, 4]
    wanted = bench.run({**LONG, "saving.every_steps": "3", "training.steps": "8"}, host=bench.host("planned"))[2]
    assert same(tensors(host.paths.lora / "cat-000003.safetensors"), tensors(wanted.paths.lora / "cat-000003.safetensors"))


def test_a_press_makes_a_preview_also_where_none_are_planned(bench):
    recorder = Recorder()
    recorder.presses = {"preview": 3}
    result, told, _ = bench.run(LONG, recorder=recorder)
    assert [row.step for row in told.rows] == [0, 3] and result.outcome == "done"


def test_the_buttons_work_while_paused(bench):
    def during(recorder):
        if not recorder.rows:
            recorder.presses = {"preview": recorder.polls, "save": recorder.polls}

    class Resting(Pausing):
        def pause_asked(self):
            return self.polls >= 3 and self.paused < 3

    _, told, _ = bench.run(LONG, recorder=Resting(3, during))
    assert [row.step for row in told.rows] == [0, 3] and [step for step, _ in told.kept] == [3]


class Refusing(FakeHost):
    """Its loader refuses the file of step 3."""

    def saved(self, kind, path, card):
        if path.stem.endswith("000003"):
            raise HostError("another checkpoint is loaded")
        return super().saved(kind, path, card)


def test_a_file_asked_for_by_a_press_that_the_host_refuses_does_not_end_the_training(bench):
    recorder = Recorder()
    recorder.presses = {"save": 3}
    result, told, _ = bench.run(LONG, host=Refusing(bench.root / "host"), recorder=recorder)
    assert result.outcome == "done" and any("step 3 was not saved. another checkpoint" in line for line in told.lines)
    with pytest.raises(HostError):  # one that the settings ask for is as any result: training on would be in vain
        bench.run({**LONG, "saving.every_steps": "3"}, host=Refusing(bench.root / "other"))


def test_a_job_pauses_and_goes_on_in_its_thread(bench):
    jobs = Jobs(bench.host())
    job = jobs.submit(settings(bench.images, {"training.steps": "60"}))
    until(lambda: job.progress.stage_name == "train")
    job.control.pause()
    until(lambda: job.state == "paused")
    shown = status_of(job)
    assert shown["paused"] and shown["pausing"] and job.state in ACTIVE and shown["seconds_left"] is None
    done = len(job.progress.losses)
    job.control.save_now()
    job.control.preview_now()
    until(lambda: status_of(job)["previews"] and status_of(job)["points"])
    assert len(job.progress.losses) == done
    job.control.resume()
    until(lambda: job.ended)
    assert job.state == "done" and len(job.progress.losses) == 60 and not status_of(job)["paused"]


def test_a_press_is_taken_once(tmp_path):
    job = Job(settings(tmp_path), tmp_path)
    assert not job.control.preview_asked() and not job.control.save_asked() and not job.control.pause_asked()
    job.control.preview_now()
    job.control.save_now()
    assert [job.control.preview_asked(), job.control.preview_asked(), job.control.save_asked(), job.control.save_asked()] == [
        True,
        False,
        True,
        False,
    ]


def test_the_status_tells_curves_previews_points_and_memory(tmp_path):
    job = Job(settings(tmp_path), tmp_path)
    job.progress.figure("validation", 20, 0.2)
    job.progress.figure("validation", 10, 0.3)
    job.progress.figure("colour drift", 10, 4.0)
    job.progress.previewed(PreviewRow(10, ("subject",), ("a cat",), (42,), ("previews/000010/00.png",)))
    job.progress.previewed(PreviewRow(0, ("subject",), ("a cat",), (42,), ("previews/000000/00.png",)))
    job.progress.points([(10, [tmp_path / "cat-000010.safetensors"])])
    job.progress.steps(StepReport(10, 20, (0.5,), {"unet": 1e-4}, 1.0, {"gradient norm": 0.7, "memory": 5.0}))
    shown = status_of(job)
    assert shown["validation"] == [(10, 0.3), (20, 0.2)] and shown["watch"] == {"colour drift": [(10, 4.0)]}
    assert [row["step"] for row in shown["previews"]] == [0, 10]
    assert shown["previews"][1] == {
        "step": 10, "kinds": ["subject"], "prompts": ["a cat"], "seeds": [42], "files": ["previews/000010/00.png"],
    }  # fmt: skip
    assert shown["points"] == [{"step": 10, "files": [str(tmp_path / "cat-000010.safetensors")]}]
    assert shown["scalars"] == {"gradient norm": 0.7, "memory": 5.0}


def test_a_run_tells_its_memory_and_validation_also_after_going_on(tmp_path):
    bench = Bench(tmp_path, pictures=4)
    changes = {**LONG, "data.held_out": "1", "training.validate_every": "2"}
    stopped, first, host = bench.run(changes, recorder=Recorder(stop_at=4))
    stopped.file.unlink()
    _, second, _ = bench.run(changes, host=host)
    assert [step for _, step, _ in first.figures] == [2, 4] and [step for _, step, _ in second.figures] == [2, 4, 6, 8]
    assert second.figures[:2] == first.figures and first.reports[-1].scalars["memory"] > 1e6


def test_a_pause_while_another_checkpoint_is_loaded_is_a_pause(bench, monkeypatch):
    monkeypatch.setattr("lib_finetune.training.turns.Turns.__init__.__defaults__", (0.0,))
    host = bench.host()

    class Leaving(Pausing):
        def pause_asked(self):
            return self.stages[-1].startswith(("waiting", "paused")) and not self.paused

        def stage(self, name, done=0, total=0):
            super().stage(name)
            if name == "train" and "left" not in self.lines:
                self.lines.append("left")
                host.load_other("other")
            self.load = bool(self.paused)

    recorder = Leaving(0)
    result = Runner(settings(bench.images, LONG), host, host.paths.data / "runs" / "run", recorder, recorder).execute()
    assert result.outcome == "done" and "paused" in recorder.stages


def test_a_job_of_an_earlier_session_shows_its_previews_and_curves(bench):
    host = bench.host()
    job = Jobs(host).submit(settings(bench.images, {"preview.enabled": "true", "preview.watch": "on", "preview.steps": "1"}))
    until(lambda: job.ended)
    found = status_of(Jobs(host).known.all()[0])
    assert found["previews"] == status_of(job)["previews"] and len(found["previews"]) == 5
    assert found["watch"] == status_of(job)["watch"] and found["watch"]
