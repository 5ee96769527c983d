"""Runs that are killed, or asked to end, at chosen and at random moments: nothing is lost, nothing is half, nothing is there twice.

24 kills in a standard run, 16 at chosen moments and two drawn ones a method; FINETUNE_FAULTS=all draws 40 a method, 160 in all, beside the
16 chosen ones.
"""

import os
import signal
import time
from pathlib import Path

import pytest

from lib_finetune.__main__ import main
from tests.fakes.runs import same, tensors
from tests.faults import driver

pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL"),
    pytest.mark.slow,
    pytest.mark.timeout(600),
]
EACH = 40 if os.environ.get("FINETUNE_FAULTS") == "all" else 2
CHOSEN = [
    (method, moment)
    for method, left_out in (
        ("lora", ("class images",)),
        ("textual-inversion", ("class images", "preview", "state written", "snapshot")),
        ("pivotal-tuning", ("class images", "preview", "state written", "state half written")),
        ("dreambooth", ("state written", "snapshot", "result written")),
    )
    for moment in driver.moments(Path())
    if moment not in left_out
]


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    return driver.make_world(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="session")
def straight(world):
    """method → (name → file of a run that nothing disturbed, seconds that it took)."""
    runs = {}

    def run(method):
        if method not in runs:
            out, began = world / f"straight-{method}", time.monotonic()
            assert main(driver.command(world, method, out)) == 0
            runs[method] = driver.result_files(out), time.monotonic() - began
        return runs[method]

    return run


def go_on(world, method, out):
    """As the message says: with --continue, or anew where nothing was saved."""
    if any(out.glob(".finetune/runs/*/state*.safetensors")):
        return main(driver.command(world, method, out, "--continue"))
    return main(driver.command(world, method, out))


def compare(method, out, straight):
    files = driver.result_files(out)
    assert not driver.half_files(out)
    assert sorted(files) == sorted(straight)
    for name in [name for name in files if name.endswith(".safetensors")]:
        assert same(tensors(files[name]), tensors(straight[name])), name


def ended_and_gone_on(world, straight, method, out, moment, number):
    process = driver.start(world, method, out)
    printed = driver.end_when(process, moment, number)
    assert not [name for name in driver.result_files(out) if "Traceback" in printed]
    if process.returncode == 0:  # it was done already
        return compare(method, out, straight(method)[0])
    whole = [path for path in driver.result_files(out).values() if path.suffix == ".safetensors"]
    assert all(tensors(path) for path in whole)  # no half file under a final name
    if process.returncode < 0 and whole and not any(out.glob(".finetune/runs/*/state*.safetensors")):
        return None  # killed behind the end, with nothing left to do
    assert go_on(world, method, out) == 0
    return compare(method, out, straight(method)[0])


@pytest.mark.parametrize(("method", "moment"), CHOSEN)
def test_a_run_killed_at_a_chosen_moment_goes_on_to_the_same_files(world, straight, tmp_path, method, moment):
    ended_and_gone_on(world, straight, method, tmp_path, driver.moments(tmp_path)[moment], signal.SIGKILL)


@pytest.mark.parametrize("number", range(EACH))
@pytest.mark.parametrize("method", list(driver.METHODS))
def test_a_run_killed_at_a_random_moment_goes_on_to_the_same_files(world, straight, tmp_path, method, number):
    seconds = driver.drawn_moment(number, 8.0 + straight(method)[1])
    ended_and_gone_on(world, straight, method, tmp_path, driver.after(seconds), signal.SIGKILL)


@pytest.mark.parametrize("number", driver.SIGNALS)
def test_a_run_that_is_asked_to_end_saves_its_state(world, straight, tmp_path, number):
    process = driver.start(world, "lora", tmp_path, "--set", "saving.state_every=1000", "--set", "preview.enabled=false")
    lines = tmp_path.glob(".finetune/runs/*/log.csv")
    printed = []

    def trains():
        line = process.stdout.readline()
        printed.append(line)
        return "loss" in line

    printed.append(driver.end_when(process, trains, number))
    text = "".join(printed)
    assert process.returncode == 1 and "Traceback" not in text and "--continue" in text, text
    assert list(tmp_path.glob(".finetune/runs/*/state*.safetensors")) and not list(lines)
    assert go_on(world, "lora", tmp_path) == 0
    name = f"models/Lora/{driver.NAME}.safetensors"
    assert same(tensors(tmp_path / name), tensors(straight("lora")[0][name]))


@pytest.mark.parametrize("number", driver.SIGNALS)
def test_a_run_that_is_asked_to_end_before_its_first_step_does_not_tell_to_resume(world, tmp_path, number):
    process = driver.start(world, "lora", tmp_path)
    text = driver.end_when(process, lambda: any(tmp_path.glob(".finetune/runs/*/settings.json")), number)
    assert process.returncode == 1 and "Traceback" not in text
    assert "--continue" not in text or list(tmp_path.glob(".finetune/runs/*/state*.safetensors"))
