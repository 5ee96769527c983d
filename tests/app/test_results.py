"""What a person does with the files of a job."""

from types import SimpleNamespace

import pytest

from lib_finetune.app import results
from lib_finetune.errors import InputError
from lib_finetune.jobs import states
from lib_finetune.jobs.job import revived
from lib_finetune.jobs.record import Record
from tests.fakes.host import FakeHost
from tests.fakes.runs import settings


@pytest.mark.parametrize("strange", ["point", "result", "kind"])
def test_a_record_that_names_another_file_moves_and_removes_nothing(tmp_path, strange):
    host = FakeHost(tmp_path)
    host.paths.lora.mkdir(parents=True, exist_ok=True)
    own = [host.paths.lora / name for name in ("cat.safetensors", "cat-000002.safetensors", "cat-000004.safetensors")]
    other = tmp_path / "other.safetensors"
    for path in (*own, other, other.with_suffix(".yaml")):
        path.write_text("theirs")
    record = Record(states.DONE, files={"lora": str(own[0])}, points={str(step): {"lora": str(own[step // 2])} for step in (2, 4)}, steps=6)
    job = revived(settings(tmp_path, {"name": "cat"}), tmp_path / "job", record)
    if strange == "point":
        record.points["2"] = {"lora": str(other)}
    elif strange == "result":
        record.files = {"lora": str(other)}
    else:
        record.points["2"] = {"checkpoint": str(own[1])}
    named = own[1] if strange == "kind" else other
    with pytest.raises(InputError, match=named.name):
        results.pick(job, 4, host, delete_others=True)
    assert all(path.read_text() == "theirs" for path in (*own, other, other.with_suffix(".yaml"))) and not host.removed


@pytest.mark.parametrize("named", ["cat.safetensors", "../other.safetensors", "dog.safetensors"])
def test_only_a_file_of_the_job_is_given_out(tmp_path, named):
    host = FakeHost(tmp_path)
    host.paths.lora.mkdir(parents=True, exist_ok=True)
    path = host.paths.lora / named
    path.write_text("x")
    job = revived(settings(tmp_path, {"name": "cat"}), tmp_path / "job", Record(states.DONE, files={"lora": str(path)}))
    found = results.Results(SimpleNamespace(host=host, known=SimpleNamespace(find=lambda _: job)), None)
    assert found.file("job", "lora") == (path if named == "cat.safetensors" else None)
    assert found.file("job", "checkpoint") is None
