"""The report for an issue."""

import sys
from pathlib import Path

import pytest

from lib_finetune.app import report
from lib_finetune.app.services import services_of
from lib_finetune.errors import InputError
from lib_finetune.jobs.queue import Jobs
from tests.fakes.runs import Bench, settings


@pytest.fixture
def services(tmp_path):
    return services_of(Jobs(Bench(tmp_path).host()))


@pytest.fixture
def job(services, tmp_path):
    services.jobs.hold()
    job = services.jobs.submit(settings(tmp_path / "pictures", {"network.rank": "9"}))
    yield job
    services.jobs.cancel(job.folder.name)


def test_it_tells_versions_device_settings_and_the_log(services, job):
    for number in range(60):
        job.progress.say(f"line {number}")
    text = services.reports.text(job.folder.name)
    assert all(part in text for part in ("Finetune ", "torch ", "cpu", '"rank": 9', "line 59", "line 10")) and "line 9\n" not in text


def test_no_path_of_this_machine_is_in_it(services, job, tmp_path):
    job.progress.say(f"Nothing lies in {tmp_path / 'pictures'}/cat.png, and {Path.home()} is mine.")
    job.message = f"{tmp_path}/models/Lora/cat.safetensors is gone."
    text = services.reports.text(job.folder.name)
    assert str(tmp_path) not in text and f"{Path.home()}/" not in text and "cat.safetensors is gone" in text and "…/cat.png" in text


def test_passwords_among_the_flags_are_left_out(monkeypatch):
    asked = ["--medvram", "--gradio-auth", "me:secret", "--api-auth=you:hidden", "--ckpt", "/home/me/models/v1.ckpt", "--port", "7861"]
    assert report._flags(asked) == ["--medvram", "--gradio-auth", "…", "--api-auth=…", "--ckpt", "v1.ckpt", "--port", "7861"]


def test_without_a_run_it_tells_the_rest(services, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["webui.py"])
    text = services.reports.text()
    assert "No run." in text and "### Flags\nnone" in text


def test_an_unknown_run_is_refused(services):
    with pytest.raises(InputError):
        services.reports.text("none such")
