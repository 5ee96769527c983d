"""The quickstart, with fewer steps and images than it has."""

import pytest
from PIL import Image
from safetensors import safe_open

from bench import __main__ as bench
from bench import quickstart
from bench.nano import checkpoint


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(quickstart, "_SAMPLE", {**quickstart._SAMPLE, "training.steps": "2", "preview.steps": "2"})
    monkeypatch.setattr(quickstart, "_WEIGHTS", (0.8,))
    monkeypatch.setattr(quickstart, "_GROUNDS", {2: "green"})


@pytest.mark.slow
def test_it_ends_with_a_lora_and_a_comparison(short, tmp_path, capsys):
    assert bench.main(["quickstart", "--output-root", str(tmp_path)]) == 0
    lora = tmp_path / "models" / "Lora" / "sample-star.safetensors"
    with safe_open(str(lora), "pt") as file:
        assert any(name.startswith("lora_unet_") for name in file.keys())  # noqa: SIM118  safetensors has no iterator
    width, height = Image.open(tmp_path / "before-and-after.png").size
    assert width == 2 * 128 and height > 128
    assert str(lora) in capsys.readouterr().out


def test_without_the_small_checkpoint_random_weights_of_its_layout_stand_in(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(checkpoint, "FILE", tmp_path / "missing.safetensors")
    path = quickstart.sample_checkpoint(tmp_path)
    with safe_open(str(path), "pt") as file:
        assert "model.diffusion_model.input_blocks.0.0.weight" in file.keys()  # noqa: SIM118
    assert "random weights" in capsys.readouterr().out.lower()
