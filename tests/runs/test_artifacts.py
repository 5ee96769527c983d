"""The files of a run: under a free name, with what belongs beside them."""

from types import SimpleNamespace

import pytest

from lib_finetune.assembly.run_plans import saving_plan
from lib_finetune.ports.checkpoint import CheckpointInfo
from lib_finetune.runs.artifacts import Artifacts
from tests.fakes.host import FakeHost, Recorder
from tests.fakes.runs import settings


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_rescued_checkpoint_replaces_no_yaml_of_the_persons(tmp_path, monkeypatch, overwrite):
    """The file got a free name by its own suffix alone, and the .yaml of another checkpoint of that name was written over."""
    host, base = FakeHost(tmp_path), tmp_path / "base.safetensors"
    base.with_suffix(".yaml").write_text("of the base")
    host.paths.checkpoints.mkdir(parents=True, exist_ok=True)
    (theirs := host.paths.checkpoints / "cat.yaml").write_text("theirs")
    plan = saving_plan(settings(tmp_path, {"method": "dreambooth", "name": "cat", "saving.overwrite": str(overwrite).lower()}))
    artifacts = Artifacts(plan, SimpleNamespace(), CheckpointInfo("base", base, None, None, None), host, Recorder())
    monkeypatch.setattr(artifacts, "fill", lambda files, *_: files["checkpoint"].write_text("weights"))
    files = artifacts.write("cat", 1, None, replaces=False)
    assert theirs.read_text() == "theirs" and files["checkpoint"].name == "cat-2.safetensors"
    assert files["checkpoint"].with_suffix(".yaml").read_text() == "of the base"
