"""What a checkpoint predicts is read from beside the file, from the file, or taken from the person."""

import codecs

import pytest
import torch
from safetensors.torch import save_file

from lib_finetune.errors import CheckpointError
from lib_finetune.model.prediction import of_checkpoint

V_CONFIG = "model:\n  target: x\n  params:\n    parameterization: {}\n    timesteps: 1000\n"


@pytest.fixture
def checkpoint(tmp_path):
    return tmp_path / "model.safetensors"


def write(path, keys=(), metadata=None, config=None):
    save_file({"weight": torch.zeros(2), **{key: torch.zeros(0) for key in keys}}, path, metadata=metadata)
    if config is not None:
        path.with_suffix(".yaml").write_bytes(config)
    return path


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (V_CONFIG.format('"v"').encode(), "v_prediction"),
        (V_CONFIG.format("v").replace("\n", "\r\n").encode(), "v_prediction"),
        (codecs.BOM_UTF8 + V_CONFIG.format("'v'").encode(), "v_prediction"),
        (V_CONFIG.format("v").encode("utf-16"), "v_prediction"),
        (b'model: {params: {parameterization: "v"}}', "v_prediction"),
        (V_CONFIG.format("eps").encode(), "epsilon"),
        (b"model:\n  params:\n    timesteps: 1000\n", "epsilon"),
        (b"", "epsilon"),
        (b"just words", "epsilon"),
    ],
)
def test_the_configuration_beside_the_file_decides(checkpoint, config, expected):
    assert of_checkpoint(write(checkpoint, keys=("v_pred",), config=config)) == expected


@pytest.mark.parametrize("config", [b"model: [", b"\xff\xfe\x00", b"model: !!python/object/apply:os.system ['exit 1']\n"])
def test_a_configuration_that_cannot_be_read_is_said(checkpoint, config):
    with pytest.raises(CheckpointError, match=r"model\.yaml"):
        of_checkpoint(write(checkpoint, config=config))


def test_an_unknown_parameterization_is_refused(checkpoint):
    with pytest.raises(CheckpointError, match="'x0'"):
        of_checkpoint(write(checkpoint, config=V_CONFIG.format("x0").encode()))


def test_the_file_itself_tells(checkpoint):
    assert of_checkpoint(write(checkpoint)) == "epsilon"
    assert of_checkpoint(write(checkpoint, keys=("v_pred",))) == "v_prediction"
    assert of_checkpoint(write(checkpoint, metadata={"modelspec.prediction_type": "v"})) == "v_prediction"


def test_a_pickled_checkpoint_tells_too(tmp_path):
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": {"weight": torch.zeros(2), "v_pred": torch.zeros(0)}}, path)
    assert of_checkpoint(path) == "v_prediction"


def test_the_person_decides_where_the_file_does_not_tell(checkpoint):
    assert of_checkpoint(write(checkpoint), "v_prediction") == "v_prediction"
    with pytest.raises(CheckpointError, match="--prediction"):
        of_checkpoint(write(checkpoint, keys=("v_pred",)), "epsilon")
