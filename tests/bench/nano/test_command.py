"""The command line of the drawn world, on random weights: what it does, not how well."""

import json

import numpy as np
import pytest

from bench.__main__ import main as bench
from bench.nano import checkpoint, command, comparison, evaluate, judge, layout, tokens, trained
from bench.nano.statistics import share
from lib_finetune.errors import InputError


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A nano checkpoint of random weights, and a judge that knows nothing."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("base")
    weights = checkpoint.ldm_weights(layout.new_unet(), layout.new_autoencoder(), layout.new_text_model())
    checkpoint.write(folder / "nano.safetensors", weights, {})
    save_file(judge.new_network().state_dict(), folder / "judge.safetensors")
    return folder


@pytest.fixture
def lora(tmp_path):
    """A LoRA file that changes one layer of the UNet."""
    import torch
    from safetensors.torch import save_file

    module = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    width = layout.UNET_WIDTH
    tensors = {
        # not ones: the sum over a normalized token is zero, up to what the processor rounds
        f"{module}.lora_down.weight": torch.randn(2, layout.TEXT_WIDTH, generator=torch.Generator().manual_seed(1)),
        f"{module}.lora_up.weight": torch.randn(width, 2, generator=torch.Generator().manual_seed(2)),
        f"{module}.alpha": torch.tensor(2.0),
    }
    save_file(tensors, tmp_path / "some-lora.safetensors")
    return tmp_path / "some-lora.safetensors"


@pytest.fixture
def drawn(monkeypatch):
    """Pictures drawn in no time instead of sampled; they depend on prompt and seed."""

    def paint(unet, vae, text, prompts, seeds, **_how):
        rngs = [np.random.default_rng((seed, len(prompt))) for prompt, seed in zip(prompts, seeds)]
        return np.stack([rng.integers(0, 256, (128, 128, 3), np.uint8) for rng in rngs])

    monkeypatch.setattr(evaluate, "paint", paint)


def no_training(*_):
    raise AssertionError("a training was started")


def measure(base, *arguments, train=no_training):
    fast = ["--count", "2", "--sampling-steps", "2", "--checkpoint", str(base / "nano.safetensors")]
    return command.main(["measure", *fast, "--judge", str(base / "judge.safetensors"), *map(str, arguments)], train)


def test_a_file_is_measured_the_same_each_time(base, lora, drawn, tmp_path, capsys):
    outs = tmp_path / "first", tmp_path / "second"
    for out in outs:
        assert measure(base, "--subject", "bee-square", "--file", lora, "--out", out) == 0
    first, second = (json.loads((out / "measure-bee-square.json").read_text()) for out in outs)
    assert first == second
    result = first["results"][0]
    assert (result["kind"], result["training_s"], result["size"]) == ("lora", None, lora.stat().st_size)
    assert {"subject fidelity", "leak", "copying", "colour drift"} <= set(result["figures"])
    assert result["figures"]["subject fidelity"]["count"] == 2
    assert (outs[0] / "measure-bee-square.png").stat().st_size > 1000
    assert "subject fidelity" in capsys.readouterr().out


def test_without_a_file_the_preset_trains(base, lora, drawn, tmp_path):
    asked = {}

    def train(path, root, values):
        asked.update(values)
        return lora

    assert measure(base, "--style", "mosaic", "--set", "training.steps=7", "--out", tmp_path, train=train) == 0
    assert asked["training.steps"] == "7"
    assert asked["data.resolution"] == "128"
    assert len(list((tmp_path / "pictures" / "mosaic").glob("*.png"))) == 10
    result = json.loads((tmp_path / "measure-mosaic.json").read_text())["results"][0]
    assert result["training_s"] >= 0
    assert "style fidelity" in result["figures"]


def test_all_wrong_input_is_told_at_once(base, tmp_path):
    (tmp_path / "notes.safetensors").write_bytes(b"no")
    arguments = ["--file", tmp_path / "none.safetensors", "--file", tmp_path / "notes.safetensors", "--second", tmp_path / "second"]
    with pytest.raises(InputError) as refused:
        measure(base, "--subject", "bee-square", *arguments)
    message = str(refused.value)
    assert "none.safetensors does not exist" in message
    assert "notes.safetensors cannot be read" in message
    assert "--second" in message


def test_an_unknown_subject_is_one_clear_message(base, capsys):
    with pytest.raises(SystemExit) as stopped:
        measure(base, "--subject", "unicorn")
    assert stopped.value.code == 2
    assert "bee-square" in capsys.readouterr().err


def test_a_checkpoint_of_another_family_is_refused(tmp_path):
    import torch
    from safetensors.torch import save_file

    path = tmp_path / "other.safetensors"
    save_file({"model.diffusion_model.joint_blocks.0.weight": torch.zeros(1)}, path)
    with pytest.raises(InputError):
        trained.painter(path, identifier="sks", steps=1, guidance=1.0)


def test_a_lora_of_another_model_is_refused(base, tmp_path):
    import torch
    from safetensors.torch import save_file

    path = tmp_path / "foreign.safetensors"
    save_file({"lora_unet_nowhere.lora_up.weight": torch.zeros(1, 1)}, path)
    with pytest.raises(InputError, match="another family"):
        trained.painter(base / "nano.safetensors", path, identifier="sks", steps=1, guidance=1.0)


def test_the_lora_changes_pictures_and_weight_zero_does_not(base, lora):
    def painted(file, weight):
        paint = trained.painter(base / "nano.safetensors", file, weight=weight, identifier="sks", steps=2, guidance=5.0)
        return paint(["a star"], [1])

    base_picture = painted(None, 1.0)
    assert np.array_equal(base_picture, painted(lora, 0.0))
    assert not np.array_equal(base_picture, painted(lora, 1.0))


def test_an_embedding_stands_for_the_identifier(base, tmp_path):
    """The vectors of a known word in place of the identifier paint what that word paints."""
    from safetensors.torch import load_file, save_file

    table = load_file(base / "nano.safetensors")["cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"]
    red = tokens.tokenizer()("red", add_special_tokens=False).input_ids
    save_file({"emb_params": table[red].contiguous()}, tmp_path / "sks.safetensors")
    plain = trained.painter(base / "nano.safetensors", identifier="sks", steps=2, guidance=5.0)
    embedded = trained.painter(base / "nano.safetensors", tmp_path / "sks.safetensors", identifier="sks", steps=2, guidance=5.0)
    assert np.array_equal(embedded(["a photo of sks star"], [1]), plain(["a photo of red star"], [1]))
    assert not np.array_equal(embedded(["a photo of sks star"], [1]), plain(["a photo of sks star"], [1]))


def test_a_word_in_a_lora_file_stands_for_the_identifier(base, lora, tmp_path):
    from safetensors.torch import load_file, save_file

    table = load_file(base / "nano.safetensors")["cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"]
    red = tokens.tokenizer()("red", add_special_tokens=False).input_ids
    save_file({**load_file(lora), "bundle_emb.sks.string_to_param.*": table[red].contiguous()}, tmp_path / "both.safetensors")

    def painted(file, prompt):
        return trained.painter(base / "nano.safetensors", file, identifier="sks", steps=2, guidance=5.0)([prompt], [1])

    assert np.array_equal(painted(tmp_path / "both.safetensors", "a photo of sks star"), painted(lora, "a photo of red star"))
    assert not np.array_equal(painted(tmp_path / "both.safetensors", "a photo of sks star"), painted(lora, "a photo of sks star"))


def test_equal_requests_are_painted_once():
    asked = []

    def paint(prompts, seeds):
        asked.extend(zip(prompts, seeds))
        return np.stack([np.full((2, 2, 3), seed, np.uint8) for seed in seeds])

    remembering = trained.Remembering(paint)
    remembering(["a", "a"], [1, 2])
    assert remembering(["b", "a"], [3, 2])[:, 0, 0, 0].tolist() == [3, 2]
    assert asked == [("a", 1), ("a", 2), ("b", 3)]


def test_the_table_puts_files_side_by_side():
    ours = comparison.Measured("ours", "lora", 2_000_000, "", 61.0, {"leak": share([False] * 10)})
    theirs = comparison.Measured("theirs", "embedding", 1000, "", None, {})
    lines = comparison.table([ours, theirs]).splitlines()
    assert lines[0].split() == ["ours", "theirs"]
    assert lines[3].split() == ["training", "61", "s", "–"]
    assert lines[4].startswith("leak")
    assert lines[4].endswith("–")


def test_the_bench_hands_nano_over(tmp_path):
    assert bench(["nano", "subject", "bee-square", str(tmp_path), "--count", "2"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["001.png", "001.txt", "002.png", "002.txt"]
