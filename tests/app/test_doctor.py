"""The doctor: what is in the way of training, and the self-test."""

import types
from pathlib import Path

import pytest

from lib_finetune import __main__ as root
from lib_finetune.app import doctor, report, self_test
from lib_finetune.app.services import services_of
from lib_finetune.errors import CheckpointError
from lib_finetune.jobs.queue import Jobs
from tests.fakes.host import FakeHost


def examined(tmp_path, checkpoint=None, open_host=None, host=None, folder=None):
    def fail(_):
        raise CheckpointError("cat.safetensors is no checkpoint of Stable Diffusion 1.x: it is a LoRA.")

    return doctor.examine(folder or tmp_path / "out", checkpoint, open_host or fail, host or (lambda scratch: FakeHost(scratch / "host")))


@pytest.fixture
def without_training(monkeypatch):
    monkeypatch.setattr(self_test, "self_test", lambda host, folder: [])


def test_where_all_is_well_it_says_what_it_looked_at(tmp_path):
    found = examined(tmp_path, Path("nano.safetensors"), lambda _: FakeHost(tmp_path / "host"))
    assert found.faults == ()
    assert [note.split()[0] for note in found.notes] == [
        "nano.safetensors",
        "The",
        f"{int(found.notes[2].split()[0])}",
        found.notes[3].split()[0],
        "Self-test:",
    ]


def test_its_report_is_the_one_of_the_tab(tmp_path, without_training):
    host = FakeHost(tmp_path / "host")
    found = examined(tmp_path, Path("nano.safetensors"), lambda _: host)
    assert found.report == services_of(Jobs(host)).reports.text() == report.report_of(host)


def test_a_file_that_is_no_checkpoint_is_a_fault(tmp_path, without_training):
    assert examined(tmp_path, Path("cat.safetensors")).faults == (
        "cat.safetensors is no checkpoint of Stable Diffusion 1.x: it is a LoRA.",
    )


def test_a_folder_that_cannot_be_written_is_a_fault(tmp_path, without_training):
    (tmp_path / "file").write_text("")
    assert "Nothing can be written into" in examined(tmp_path, folder=tmp_path / "file").faults[0]


def test_a_full_disk_and_full_memory_are_faults(tmp_path, without_training, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=1_000_000_000))
    monkeypatch.setattr("psutil.virtual_memory", lambda: types.SimpleNamespace(available=2_000_000_000))
    faults = examined(tmp_path).faults
    assert faults[0].startswith("1.0 GB of the disk are free") and faults[1].startswith("2.0 GB of main memory are free")


def test_a_method_that_fails_is_named(tmp_path):
    def host(scratch):
        fake = FakeHost(scratch / "host")
        fake.faults["lease"] = (1, CheckpointError("the weights are gone"))
        return fake

    fault = examined(tmp_path, host=host).faults[0]
    assert fault.startswith("The self-test failed. lora: ") and "the weights are gone" in fault


def test_a_host_that_is_not_as_before_is_a_fault(tmp_path):
    class Torn(FakeHost):
        def restoration(self):
            from lib_finetune.ports.host import Restoration

            return Restoration(("conv_in.weight differs",), 3)

    fault = examined(tmp_path, host=lambda scratch: Torn(scratch / "host")).faults[0]
    assert "lora: " in fault and "NOT as it was: conv_in.weight differs" in fault


def test_a_library_that_is_missing_is_a_fault_and_the_rest_is_looked_at(tmp_path):
    def host(_):
        raise ImportError("No module named 'torch'")

    found = examined(tmp_path, host=host)
    assert found.faults == ("A library cannot be loaded: No module named 'torch'. The README's part on installing says how it is added.",)
    assert len(found.notes) == 3


def test_the_command_prints_the_report_then_each_thing_and_fails_with_a_fault(tmp_path, capsys, without_training):
    assert root.main(["doctor", "--output-root", str(tmp_path / "out")]) == 0
    assert "### Versions" in capsys.readouterr().out
    assert root.main(["doctor", "--output-root", str(tmp_path / "out"), "--checkpoint", str(tmp_path / "none.safetensors")]) == 1
    out = capsys.readouterr().out
    assert "ok: The folder of results can be written." in out and "fault: " in out and "none.safetensors" in out
