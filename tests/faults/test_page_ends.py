"""The page without the WebUI is asked to end, or killed: the state of what it trains is saved, and no job is lost."""

import json
import signal
import sys
import time

import pytest

from lib_finetune.runs.folder import RunFolder
from tests.faults import driver, page

pytest.importorskip("gradio")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(sys.platform == "win32", reason="signals are sent otherwise there"),
]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_the_page_saves_the_state_of_what_it_trains(tmp_path, name):
    world, port, out = driver.make_world(tmp_path), page.free_port(), tmp_path / "out"
    process = page.start(world, out, port)
    try:
        job = page.ask(port, "jobs", page.training(world, driver.NAME, 20000))
        until = time.monotonic() + 120
        while time.monotonic() < until and not page.ask(port, f"jobs/{job['id']}")["losses"]:
            time.sleep(0.2)
        process.send_signal(getattr(signal, name))
        printed = process.communicate(timeout=120)[0]
    finally:
        process.kill()
    folder = next((out / ".finetune" / "runs").iterdir())
    record = json.loads((folder / "job.json").read_text())
    assert RunFolder(folder).resumes() and record["state"] == "interrupted" and "can be resumed" in record["message"], printed
    assert "its state saved" in printed and "Traceback" not in printed, printed


def test_no_waiting_job_is_lost_when_the_page_is_killed(tmp_path):
    world, out, names = driver.make_world(tmp_path), tmp_path / "out", [f"cat-{number:02d}" for number in range(21)]
    port = page.free_port()
    process = page.start(world, out, port)
    try:
        jobs = [page.ask(port, "jobs", page.training(world, name, 20000)) for name in names]
        until = time.monotonic() + 120
        while time.monotonic() < until and not page.ask(port, f"jobs/{jobs[0]['id']}")["losses"]:
            time.sleep(0.2)
    finally:
        process.kill()
        process.communicate(timeout=60)
    again = page.start(world, out, port := page.free_port())
    try:
        states = {job["name"]: job["state"] for job in page.ask(port, "jobs")["jobs"]}
        settings = [page.ask(port, f"jobs/{job['id']}/settings")["training"]["steps"] for job in jobs]
    finally:
        again.kill()
        again.communicate(timeout=60)
    assert states == {name: "queued" if number else "interrupted" for number, name in enumerate(names)}
    assert settings == [20000] * 21
