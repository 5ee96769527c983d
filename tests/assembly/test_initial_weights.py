"""Runs that begin with a LoRA file: what they begin with, what is said, and what is refused."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from lib_finetune.errors import InputError
from lib_finetune.export import bundled_word
from tests.fakes.runs import Bench, metadata, same, tensors

STILL = {"optimizer.unet_rate": "1e-9", "optimizer.text_encoder_rate": "1e-9", "optimizer.weight_decay": "0", "training.steps": "1"}
"""A run that moves nothing that fp16 could see."""
PIVOT = {"method": "pivotal_tuning", "name": "zxqcat", "embedding.vectors": "3", "optimizer.warmup": "0"}


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.fixture
def first(bench):
    """A LoRA that has learned."""
    return bench.run({"optimizer.unet_rate": "0.01", "optimizer.warmup": "0"}, host=bench.host("first"))[0].file


def test_a_run_begins_with_the_file_and_says_so(bench, first):
    result, told, _ = bench.run({"name": "dog", "network.start": str(first), **STILL})
    begun, ended = tensors(first), tensors(result.file)
    assert begun.keys() == ended.keys() and all(torch.allclose(begun[name], ended[name], atol=1e-4) for name in begun)
    assert any("begin with those of cat.safetensors" in line for line in told.lines)


def test_the_path_of_the_file_is_nobodys_business(bench, first):
    found = str(metadata(bench.run({"name": "dog", "network.start": str(first)})[0].file))
    assert str(first.parent) not in found and "cat.safetensors" in found


def test_every_setting_that_does_not_fit_is_named_with_the_value_to_set(bench, first):
    changes = {
        "network.rank": "4",
        "network.alpha": "2",
        "network.targets": "all",
        "network.text_encoder": "false",
        "network.conv_rank": "2",
    }
    with pytest.raises(InputError) as caught:
        bench.run({"name": "dog", "network.start": str(first), **changes})
    told = {problem.field: problem.message for problem in caught.value.problems}
    assert told.keys() == changes.keys() and told["network.rank"] == "is 4, but cat.safetensors has 2. Set it to 2."
    assert "Set it to true." in told["network.text_encoder"] and "Set it to 8." in told["network.alpha"]
    with pytest.raises(InputError, match=r"network\.adapter: is loha, but cat\.safetensors has lora"):
        bench.run({"name": "dog", "network.start": str(first), "network.adapter": "loha"})


def test_a_missing_or_broken_file_is_told(bench):
    with pytest.raises(InputError, match=r"network\.start: .*nowhere\.safetensors does not exist"):
        bench.run({"network.start": str(bench.root / "nowhere.safetensors")})
    (bench.root / "broken.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match=r"network\.start: broken\.safetensors cannot be read"):
        bench.run({"network.start": str(bench.root / "broken.safetensors")})


def test_other_methods_do_not_look_at_it(bench):
    assert bench.run({"method": "textual_inversion", "name": "zxqcat", "network.start": "nowhere.safetensors"})[0].outcome == "done"


def test_a_stopped_run_goes_on_from_its_state_and_not_from_the_file(bench, first):
    from tests.fakes.host import Recorder

    changes = {"name": "dog", "network.start": str(first)}
    straight = bench.run(changes, host=bench.host("straight"))[0]
    stopped, _, host = bench.run(changes, recorder=Recorder(stop_at=2))
    stopped.file.unlink()
    first.unlink()  # and needs it no more
    result, told, _ = bench.run(changes, host=host)
    assert same(tensors(straight.file), tensors(result.file)) and not any("begin with" in line for line in told.lines)


# -- the word ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def taught(bench):
    """A LoRA with a word in it."""
    return bench.run({**PIVOT, "embedding.rate": "0.1"}, host=bench.host("taught"))[0].file


def words(file):
    return bundled_word.parted(load_file(str(file)))[1]


def test_a_word_in_the_file_begins_too(bench, taught):
    result = bench.run({**PIVOT, "name": "zxqdog", "network.start": str(taught), "embedding.rate": "1e-9", **STILL})[0]
    assert torch.allclose(words(result.file)["zxqdog"], words(taught)["zxqcat"], atol=1e-6)


def test_the_word_that_a_file_brings_may_stay_as_it_is(bench, taught):
    changes = {**PIVOT, "name": "zxqdog", "network.start": str(taught), "embedding.until": "0"}
    result = bench.run(changes)[0]
    assert torch.equal(words(result.file)["zxqdog"], words(taught)["zxqcat"])
    with pytest.raises(InputError, match=r"embedding\.until"):
        bench.run({**changes, "embedding.init": "red car"}, host=bench.host("other"))


def test_init_says_otherwise(bench, taught):
    changes = {**PIVOT, "name": "zxqdog", "network.start": str(taught), "embedding.init": "red car", "embedding.rate": "1e-9", **STILL}
    assert not torch.allclose(words(bench.run(changes)[0].file)["zxqdog"], words(taught)["zxqcat"], atol=1e-3)


def test_the_number_of_vectors_is_told(bench, taught):
    with pytest.raises(InputError, match=r"embedding\.vectors: is 2, but zxqcat\.safetensors has 3. Set it to 3"):
        bench.run({**PIVOT, "name": "zxqdog", "embedding.vectors": "2", "network.start": str(taught)})


def test_of_several_words_that_of_the_results_name_begins(bench, taught):
    patches, found = bundled_word.parted(load_file(str(taught)))
    given = {bundled_word.key("zxqdog"): torch.ones(3, 32), bundled_word.key("zxqcat"): found["zxqcat"]}
    several = bench.root / "several.safetensors"
    save_file({**patches, **given}, str(several))
    changes = {**PIVOT, "network.start": str(several), "embedding.until": "0"}
    assert torch.equal(words(bench.run({**changes, "name": "zxqdog"})[0].file)["zxqdog"], torch.ones(3, 32))
    with pytest.raises(InputError, match=r"embedding\.init: several\.safetensors brings 2 words, none of them zxqbird"):
        bench.run({**changes, "name": "zxqbird"})


def test_a_lora_without_a_word_says_that_the_files_word_is_lost(bench, taught):
    _, told, _ = bench.run({"name": "dog", "network.start": str(taught), **STILL})
    assert any("Its word zxqcat will not be in the result" in line for line in told.lines)


def test_a_word_of_another_width_is_refused(bench, taught):
    patches, _ = bundled_word.parted(load_file(str(taught)))
    wide = bench.root / "wide.safetensors"
    save_file({**patches, bundled_word.key("zxqcat"): torch.ones(3, 64)}, str(wide))
    with pytest.raises(InputError, match=r"network\.start: .*64 wide, the loaded model's text encoder 32"):
        bench.run({**PIVOT, "name": "zxqdog", "network.start": str(wide)})
