"""Pivotal tuning: a word and patches from one run, in one file that the WebUI reads or in two that others read."""

import copy
import importlib.metadata
import itertools

import pytest
import torch
from safetensors.torch import load_file, save_file

from lib_finetune.errors import InputError
from lib_finetune.export import bundled_word, embedding_file
from lib_finetune.host.headless.pictures import HeadlessPictures
from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.lora_merge import merged
from lib_finetune.model.random_weights import small_layout
from lib_finetune.ports.pictures import PictureRequest
from lib_finetune.text.learned import LearnedVectors, first_values, ids_of
from lib_finetune.text.prompts import TextEncoder
from lib_finetune.training.methods.textual_inversion import KEY
from tests.fakes.host import Recorder, tiny_tensors
from tests.fakes.pictures import draw
from tests.fakes.runs import Bench, same

NEWEST = int(importlib.metadata.version("transformers").split(".")[0]) >= 5
PIVOT = {
    "method": "pivotal_tuning", "name": "zxqcat", "embedding.vectors": "3", "embedding.rate": "0.1", "optimizer.unet_rate": "0.01",
    "optimizer.text_encoder_rate": "0.01", "optimizer.warmup": "0", "data.caption_dropout": "0",
}  # fmt: skip
WORD = "bundle_emb.zxqcat.string_to_param.*"


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def picture(host, **given):
    request = PictureRequest("a photo of zxqcat", width_px=64, height_px=64, steps=2, **given)
    return HeadlessPictures.make_batch(host.pictures, request, 1)[0].tobytes()


def as_the_webui_reads(file):
    """Word → vectors by the rules of `load_network`: a key is parted at its first dot, what follows the word at the next ones."""
    found = {}
    for key, value in file.items():
        module, _, rest = key.partition(".")
        if module == "bundle_emb":
            word, inner = rest.split(".", 1)
            kind, _ = inner.split(".", 1)
            assert kind == "string_to_param" and word not in found
            found[word] = value.to(dtype=torch.float32)
    return found


# -- the file ----------------------------------------------------------------------------------------------------------


def test_one_file_holds_patches_and_word(bench):
    result, told, host = bench.run(PIVOT)
    assert result.file == host.paths.lora / "zxqcat.safetensors" and not result.restoration.differences
    assert not host.paths.embeddings.exists() or not list(host.paths.embeddings.iterdir())
    file = load_file(str(result.file))
    kinds = {name.partition(".")[0] == "bundle_emb": value.dtype for name, value in file.items()}
    assert kinds == {True: torch.float32, False: torch.float16}
    assert {word: tuple(value.shape) for word, value in as_the_webui_reads(file).items()} == {"zxqcat": (3, 32)}
    said = "\n".join(told.lines)
    assert "brings 1 of 1 words: zxqcat" in said and "zxqcat <lora:zxqcat:0.8>" in said and "takes 3 of the 75 tokens" in said


def test_the_file_works_as_its_parts_do(bench):
    result, _, host = bench.run(PIVOT)
    patches, words = bundled_word.parted(load_file(str(result.file)))
    save_file(patches, str(bench.root / "patches.safetensors"))
    save_file({KEY: words["zxqcat"]}, str(bench.root / "zxqcat.safetensors"))
    alone = ((bench.root / "patches.safetensors", 0.8),)
    whole = picture(host, loras=((result.file, 0.8),))
    assert whole == picture(host, loras=alone, embeddings=(bench.root / "zxqcat.safetensors",))
    assert len({whole, picture(host, loras=alone), picture(host)}) == 3


def test_an_embedding_of_the_folder_goes_before_the_files_word(bench):
    result, _, host = bench.run(PIVOT)
    own = bench.root / "zxqcat.safetensors"
    save_file({KEY: torch.zeros(2, 32)}, str(own))
    assert picture(host, loras=((result.file, 1.0),), embeddings=(own,)) != picture(host, loras=((result.file, 1.0),))


def test_two_files_hold_the_same(bench):
    one = bench.run(PIVOT, host=bench.host("one"))[0].file
    result, told, host = bench.run({**PIVOT, "embedding.bundle": "false", "preview.enabled": "true"}, host=bench.host("two"))
    word = host.paths.embeddings / "zxqcat.safetensors"
    patches, words = bundled_word.parted(load_file(str(one)))
    assert same(patches, load_file(str(result.file))) and torch.equal(words["zxqcat"], embedding_file.read(word))
    assert word.with_suffix(".preview.png").is_file() and result.file.with_suffix(".png").is_file() and word.with_suffix(".json").is_file()
    assert host.asked[-1].embeddings == (word,) and host.asked[-1].loras == ((result.file, 0.8),)
    assert any("zxqcat <lora:zxqcat:0.8>" in line for line in told.lines)


@pytest.mark.skipif(not NEWEST, reason="diffusers loads LoRA files only with transformers 4.34 or later")
def test_diffusers_gives_with_two_files_what_we_give(bench):
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    from transformers import CLIPTextConfig, CLIPTextModel

    result, _, host = bench.run({**PIVOT, "embedding.bundle": "false", "saving.precision": "fp32"})
    word, tools = host.paths.embeddings / "zxqcat.safetensors", host.text_tools()
    plain, ours = BorrowedModel(small_layout()), BorrowedModel(small_layout())
    plain.bind(tiny_tensors())
    ours.bind(merged(tiny_tensors(), ours, load_file(str(result.file)), 1.0))
    text = CLIPTextModel(CLIPTextConfig(**small_layout().text))
    text.load_state_dict(dict(plain.text.state_dict()), strict=False)
    pipe = StableDiffusionPipeline(
        vae=plain.vae, text_encoder=text, tokenizer=copy.deepcopy(tools.tokenizer), unet=plain.unet, scheduler=DDIMScheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    learned = LearnedVectors(ours.text, tools.tokenizer, {"zxqcat": embedding_file.read(word)})
    latents, timestep = torch.randn(1, 4, 8, 8), torch.tensor([300])
    with torch.no_grad():
        mine = TextEncoder(ours.text, tools.tokenizer, 1, learned=learned).encode(["a photo of zxqcat"])
        pipe.load_textual_inversion(str(word), token="zxqcat")
        pipe.load_lora_weights(str(result.file.parent), weight_name=result.file.name)
        prompt = pipe.maybe_convert_prompt("a photo of zxqcat", pipe.tokenizer)
        ids = pipe.tokenizer(prompt, padding="max_length", max_length=77, return_tensors="pt").input_ids
        theirs = pipe.text_encoder(ids).last_hidden_state
        assert torch.allclose(mine, theirs, atol=1e-4)
        assert torch.allclose(ours.unet(latents, timestep, mine).sample, pipe.unet(latents, timestep, theirs).sample, atol=1e-3)


# -- what learns when --------------------------------------------------------------------------------------------------


def moving(bench, **changes):
    """Of each step's file: (word, patches), to see which of them the next step moves."""
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    _, _, host = bench.run({**PIVOT, "saving.every_steps": "1", "saving.precision": "fp32", **changes})
    stems = ["zxqcat-000001", "zxqcat-000002", "zxqcat-000003", "zxqcat"]
    files = [load_file(str(host.paths.lora / f"{stem}.safetensors")) for stem in stems]
    states = [(file.pop(WORD), {name: value for name, value in file.items() if "lora_up" in name}) for file in files]
    return [
        (not torch.equal(word, before), not same(patches, other)) for (before, other), (word, patches) in itertools.pairwise(states)
    ], states


def test_word_and_patches_learn_together(bench):
    moved, _ = moving(bench, embedding__until="1")
    assert moved == [(True, True)] * 3


def test_word_and_patches_learn_one_after_the_other(bench):
    moved, states = moving(bench, embedding__until="0.5", network__begin="0.5", embedding__keep_norm="true")
    assert moved == [(True, False), (False, True), (False, True)]
    assert not any(value.any() for value in states[1][1].values())  # until then the patches change nothing


def test_a_word_from_a_file_may_stay_as_it_is(bench):
    own = bench.root / "old.safetensors"
    save_file({KEY: torch.full((3, 32), 0.25)}, str(own))
    file = bench.run({**PIVOT, "embedding.until": "0", "embedding.init": str(own)})[0].file
    assert torch.equal(load_file(str(file))[WORD], torch.full((3, 32), 0.25))


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor", "prodigy"])
def test_a_stopped_run_goes_on_to_the_same_file(bench, optimizer):
    changes = {**PIVOT, "optimizer.name": optimizer, "network.begin": "0.5"}
    if optimizer == "prodigy":
        changes |= {"embedding.rate": "1", "optimizer.unet_rate": "1", "optimizer.text_encoder_rate": "1"}
    straight = bench.run(changes, host=bench.host("straight"))[0]
    stopped, _, host = bench.run(changes, recorder=Recorder(stop_at=2))
    stopped.file.unlink()
    result = bench.run(changes, host=host)[0]
    assert same(load_file(str(straight.file)), load_file(str(result.file)))


def test_kept_norms_stay_in_the_bundle(bench):
    model = BorrowedModel(small_layout())
    model.bind(tiny_tensors())
    table = model.text.embeddings.token_embedding.weight
    first = first_values(table, ids_of(bench.host().text_tools().tokenizer, "car"), 3, 42)
    file = bench.run({**PIVOT, "embedding.init": "car", "embedding.keep_norm": "true"})[0].file
    kept = as_the_webui_reads(load_file(str(file)))["zxqcat"]
    assert torch.allclose(kept.norm(dim=1), first.norm(dim=1), rtol=1e-4) and not torch.allclose(kept, first, atol=1e-3)


def test_class_pictures_go_with_it(bench):
    result = bench.run({**PIVOT, "data.class_images": str(draw(bench.root / "classes", 2, seed=9))})[0]
    assert result.outcome == "done"


# -- wrong input -------------------------------------------------------------------------------------------------------


def problems_of(bench, **changes):
    with pytest.raises(InputError) as caught:
        bench.run({**PIVOT, **{name.replace("__", "."): value for name, value in changes.items()}})
    return {problem.field: problem.message for problem in caught.value.problems}


def test_what_cannot_be_is_said_before_training(bench):
    assert "my-cat" in problems_of(bench, name="my.cat")["name"]
    assert "nothing would learn" in problems_of(bench, network__begin="0.8", embedding__until="0.3")["network.begin"]
    assert "embedding.init" in problems_of(bench, embedding__until="0")["embedding.until"]


def test_an_embedding_that_would_hide_the_word_is_refused(bench):
    folder = bench.host().paths.embeddings
    folder.mkdir(parents=True)
    (folder / "zxqcat.safetensors").write_bytes(b"x")
    assert "zxqcat-2" in problems_of(bench, saving__overwrite="true")["name"]


def test_a_taken_name_of_either_file_is_refused(bench):
    folder = bench.host().paths.embeddings
    folder.mkdir(parents=True)
    (folder / "zxqcat.safetensors").write_bytes(b"x")
    assert "zxqcat.safetensors" in problems_of(bench, embedding__bundle="false")["name"]
