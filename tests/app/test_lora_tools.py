"""A LoRA extracted from a checkpoint, and one resized: what they do to the model, what is refused, and that nothing is overwritten."""

import importlib.metadata
import json
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from lib_finetune.access import Folders
from lib_finetune.app.services import services_of
from lib_finetune.errors import InputError
from lib_finetune.jobs.queue import Jobs
from lib_finetune.model import checkpoint_reader
from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.lora_merge import by_module, merged
from lib_finetune.model.names import text_to_ldm, unet_to_ldm
from lib_finetune.model.random_weights import small_layout
from tests.fakes.host import tiny_tensors
from tests.fakes.runs import Bench, metadata

NEWEST = int(importlib.metadata.version("transformers").split(".")[0]) >= 5
UNET, TEXT = "model.diffusion_model.", "cond_stage_model.transformer.text_model."


@pytest.fixture
def services(tmp_path):
    return services_of(Jobs(Bench(tmp_path).host()))


@pytest.fixture
def paths(services):
    for folder in services.host.paths.all:
        folder.mkdir(parents=True, exist_ok=True)
    return services.host.paths


def ended(task, seconds=120):
    until = time.monotonic() + seconds
    while not task.ended and time.monotonic() < until:
        time.sleep(0.01)
    return task


def done(task):
    assert ended(task).state == "done", task.message
    return task.result


def trained(text=True, rank=None, scale=0.02):
    """The tiny checkpoint with changes: of every weight of UNet (and text encoder), or of a low rank in its matrices alone."""
    generator = torch.Generator().manual_seed(5)
    tensors = tiny_tensors()
    for name, value in tensors.items():
        if (
            (not name.startswith(UNET) and not (text and name.startswith(TEXT)))
            or (rank and value.ndim < 2)
            or not value.is_floating_point()
        ):
            continue
        noise = torch.randn(value.shape, generator=generator)
        if rank:
            flat = noise.flatten(1)
            noise = (flat[:, :rank] @ torch.randn(min(rank, flat.shape[1]), flat.shape[1], generator=generator)).reshape(value.shape)
        tensors[name] = value + scale * value.std().clamp_min(0.01) * noise
    return tensors


@pytest.fixture
def checkpoints(paths):
    def write(tensors, name="dog", told=None, base_told=None):
        save_file(tiny_tensors(), paths.checkpoints / "base.safetensors", base_told or {})
        save_file(tensors, paths.checkpoints / f"{name}.safetensors", told or {})

    return write


def by_hand(file, base):
    """What kohya's networks/lora.py does with a file: W + up · down · alpha / rank, found by the names that it gives modules."""
    layout = small_layout()
    model, result = BorrowedModel(layout), dict(base)
    attends = [kind.startswith("CrossAttn") for kind in layout.unet["up_block_types"]]
    names = {}
    for root, prefix, ldm in (
        (model.unet, "lora_unet_", lambda name: unet_to_ldm(name, 2, attends)),
        (model.text, "lora_te_text_model_", text_to_ldm),
    ):
        names |= {
            prefix + name.replace(".", "_"): ldm(f"{name}.weight") for name, module in root.named_modules() if hasattr(module, "weight")
        }
    for module, parts in by_module(file).items():
        up, down = parts["lora_up.weight"].float(), parts["lora_down.weight"].float()
        change = (up.flatten(1) @ down.flatten(1)) * (float(parts["alpha"]) / len(down))
        weight = result[names[module]]
        result[names[module]] = weight + change.reshape(weight.shape)
    return result


def error(tensors, result, base, names):
    lost = sum(float((tensors[name] - result[name]).square().sum()) for name in names) ** 0.5
    return lost / sum(float((result[name] - base[name]).square().sum()) for name in names) ** 0.5


def matrices(result, base):
    return [
        name for name, value in result.items() if value.ndim > 1 and not torch.equal(value, base[name]) and "embedding.weight" not in name
    ]


# -- extracted ---------------------------------------------------------------------------------------------------------


def test_of_a_low_rank_change_nothing_is_lost_and_the_model_answers_as_the_result_does(services, paths, checkpoints):
    result, base = trained(rank=2), tiny_tensors()
    checkpoints(result)
    answer = done(services.lora_tools.extract("dog.safetensors", "base.safetensors", "", 4, conv=True, precision="fp32"))
    file = load_file(str(paths.lora / "dog-lora.safetensors"))
    names = [name for name in matrices(result, base) if "embedding" not in name]
    assert error(by_hand(file, base), result, base, names) < 1e-3 and answer["file"] == "dog-lora.safetensors"
    theirs, ours = BorrowedModel(small_layout()), BorrowedModel(small_layout())
    embeddings = {name: value for name, value in result.items() if "embedding" in name}
    theirs.bind(result)
    ours.bind({**merged(base, ours, file, 1.0), **embeddings})
    inputs = (torch.randn(1, 4, 8, 8), torch.tensor([300]), torch.randn(1, 77, 32))
    ids = torch.tensor([[49406, *range(320, 395), 49407]])
    with torch.no_grad():
        assert torch.allclose(theirs.unet(*inputs).sample, ours.unet(*inputs).sample, atol=1e-4)
        assert torch.allclose(theirs.text(ids).last_hidden_state, ours.text(ids).last_hidden_state, atol=1e-4)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_share_is_kept_in_every_layer(services, paths, checkpoints, share):
    result, base = trained(), tiny_tensors()
    checkpoints(result)
    done(services.lora_tools.extract("dog", "base", "d", share=share, conv=True, precision="fp32"))
    after = by_hand(load_file(str(paths.lora / "d.safetensors")), base)
    for name in matrices(result, base):
        if "embedding" not in name:
            assert error(after, result, base, [name]) <= 1 - share + 1e-3, name
    assert metadata(paths.lora / "d.safetensors")["ss_network_dim"] == "Dynamic"


def test_a_higher_share_makes_a_larger_file_and_the_rank_bounds_it(services, paths, checkpoints):
    checkpoints(trained())
    sizes = [
        done(services.lora_tools.extract("dog", "base", name, rank, share))["bytes"]
        for name, rank, share in (("a", "", "0.3"), ("b", "", "0,8"), ("c", "2", "0.8"))
    ]
    assert sizes[2] < sizes[0] < sizes[1]


def test_convolutions_come_on_wish_and_the_text_encoder_where_it_was_trained(services, paths, checkpoints):
    for name, text, conv in (("plain", True, False), ("conv", False, True)):
        checkpoints(trained(text=text))
        done(services.lora_tools.extract("dog", "base", name, 2, conv=conv))
        keys = load_file(str(paths.lora / f"{name}.safetensors"))
        assert any("_resnets_0_conv1." in key for key in keys) is conv
        assert any(key.startswith("lora_te_text_model_encoder") for key in keys) is text
        assert any("_attentions_0_transformer_blocks_0_attn1_to_q." in key for key in keys)


def test_a_weight_that_was_only_rounded_was_not_trained(services, paths, checkpoints):
    result = {name: value.half() if value.is_floating_point() else value for name, value in trained(text=False).items()}
    checkpoints(result)
    answer = done(services.lora_tools.extract("dog", "base", "", 2))
    assert not any(key.startswith("lora_te") for key in load_file(str(paths.lora / "dog-lora.safetensors")))
    assert "The text encoder was not trained, so it is not in it." in answer["lines"]


def test_the_file_says_what_it_is_and_the_library_lists_it(services, paths, checkpoints):
    told = {"finetune_base": "base", "modelspec.trigger_phrase": "zxq dog", "finetune_settings": "{}", "ss_clip_skip": "2"}
    checkpoints(trained(), told=told)
    (paths.checkpoints / "dog.json").write_text(json.dumps({"activation text": "zxq dog", "preferred weight": 0}))
    done(services.lora_tools.extract("dog", "", "small", 2))
    about = metadata(paths.lora / "small.safetensors")
    assert (about["ss_network_dim"], about["ss_sd_model_name"], about["ss_output_name"], about["ss_clip_skip"]) == (
        "2",
        "base",
        "small",
        "2",
    )
    assert about["modelspec.architecture"] == "stable-diffusion-v1/lora" and str(paths.data.parent) not in json.dumps(about)
    entry = next(entry for entry in services.library.entries() if entry["name"] == "small")
    assert entry["call"] == "<lora:small:1> zxq dog"


@pytest.mark.skipif(not NEWEST, reason="diffusers loads LoRA files only with transformers 4.34 or later")
def test_diffusers_gives_the_results_answer(services, paths, checkpoints):
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    from transformers import CLIPTextConfig, CLIPTextModel

    result, base = trained(text=False, rank=2), tiny_tensors()
    checkpoints(result)
    done(services.lora_tools.extract("dog", "base", "d", 4, conv=False, precision="fp32"))
    attention = [name for name in matrices(result, base) if "transformer_blocks" in name or "proj_in" in name or "proj_out" in name]
    plain, wanted = BorrowedModel(small_layout()), BorrowedModel(small_layout())
    plain.bind(base)
    wanted.bind({**base, **{name: result[name] for name in attention}})
    text = CLIPTextModel(CLIPTextConfig(**small_layout().text))
    pipe = StableDiffusionPipeline(
        vae=plain.vae, text_encoder=text, tokenizer=services.host.text_tools().tokenizer, unet=plain.unet, scheduler=DDIMScheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    inputs = (torch.randn(1, 4, 8, 8), torch.tensor([300]), torch.randn(1, 77, 32))
    with torch.no_grad():
        before = plain.unet(*inputs).sample
        pipe.load_lora_weights(str(paths.lora), weight_name="d.safetensors")
        assert (before - wanted.unet(*inputs).sample).abs().max() > 1e-3
        assert torch.allclose(pipe.unet(*inputs).sample, wanted.unet(*inputs).sample, atol=1e-3)


def test_the_wrong_base_is_called_so(services, paths, checkpoints):
    checkpoints(trained())
    digits = checkpoint_reader.sha256(paths.checkpoints / "base.safetensors")
    checkpoints(trained(), told={"finetune_base": "base", "finetune_base_sha256": digits})
    save_file(tiny_tensors(3), paths.checkpoints / "other.safetensors")
    task = ended(services.lora_tools.extract("dog", "other", "", 2))
    assert task.state == "failed" and "other.safetensors" in task.message and f"base ({digits[:10]})" in task.message
    assert list(paths.lora.glob("*")) == []
    done(services.lora_tools.extract("dog", "", "", 2))  # found by its name, and right


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors, "hold the same weights"),
        (lambda tensors: {**tensors, UNET + "out.2.weight": tensors[UNET + "out.2.weight"] * float("nan")}, "dog.safetensors is damaged"),
        (
            lambda tensors: {name: value for name, value in tensors.items() if name.startswith(UNET)},
            "no checkpoint of Stable Diffusion 1.x",
        ),
        (lambda tensors: {"lora_unet_x.lora_up.weight": torch.ones(2, 2)}, "it is a LoRA"),
        (lambda tensors: {**tensors, "conditioner.embedders.0.x": torch.ones(2)}, "SDXL"),
        (
            lambda tensors: {name: value for name, value in tensors.items() if not name.endswith("middle_block.0.in_layers.2.weight")},
            "middle_block.0.in_layers.2.weight",
        ),
    ],
)
def test_what_is_no_result_is_called_by_its_name(services, paths, checkpoints, change, said):
    checkpoints(change(tiny_tensors()))
    task = ended(services.lora_tools.extract("dog", "base", "", 2))
    assert task.state == "failed" and said in task.message and list(paths.lora.glob("*")) == []


def test_two_models_of_different_makers_are_told_apart_from_a_training(services, checkpoints):
    checkpoints(tiny_tensors(7))
    answer = done(services.lora_tools.extract("dog", "base", "", 2))
    assert any("may not be the base" in line for line in answer["lines"])


def test_a_base_that_nobody_names_is_asked_for(services, checkpoints):
    checkpoints(trained(), told={"finetune_base": "gone"})
    with pytest.raises(InputError, match="base: is empty, and gone, on which dog.safetensors was trained, is not in"):
        services.lora_tools.extract("dog", "", "", 2)
    checkpoints(trained())
    with pytest.raises(InputError, match="does not say what it was trained on"):
        services.lora_tools.extract("dog", "", "", 2)


def test_everything_that_is_wrong_is_said_at_once(services, paths):
    with pytest.raises(InputError) as raised:
        services.lora_tools.extract("", "nothing", "a/b", "many", "90", precision="int8")
    said = {problem.field: problem.message for problem in raised.value.problems}
    assert set(said) == {"checkpoint", "base", "name", "rank", "share", "precision"} and "write 0.9" in said["share"]
    with pytest.raises(InputError, match="(?s)lora: x is neither .*rank: is empty, and so is the share"):
        services.lora_tools.resize("x")


@pytest.mark.parametrize(
    ("rank", "share"),
    [(0, None), (-3, None), (2.5, None), ("nan", None), (True, None), (5000, None), (None, 0), (None, "x"), (None, float("inf"))],
)
def test_ranks_and_shares_that_cannot_be(services, rank, share):
    with pytest.raises(InputError, match=r"(rank|share): .* is no"):
        services.lora_tools.resize("x", "", rank, share)


def test_a_file_that_is_there_is_never_replaced(services, paths, checkpoints):
    checkpoints(trained())
    (paths.lora / "dog-lora.safetensors").write_bytes(b"mine")
    with pytest.raises(InputError, match="name: dog-lora.safetensors exists already .*dog-lora-2") as raised:
        services.lora_tools.extract("dog", "base", "", 2)
    assert "overwriting" not in str(raised.value)
    task = services.lora_tools.extract("dog", "base", "late", 2)
    (paths.lora / "late.safetensors").write_bytes(b"mine")
    assert ended(task).state == "failed" or (paths.lora / "late.safetensors").stat().st_size > 4
    assert (paths.lora / "dog-lora.safetensors").read_bytes() == b"mine"


def test_from_other_machines_only_the_hosts_files_can_be_named(tmp_path, checkpoints):
    services = services_of(Jobs(Bench(tmp_path / "second").host()), Folders((tmp_path / "allowed",), "Ask."))
    outside = tmp_path / "secret.safetensors"
    save_file(tiny_tensors(), outside)
    with pytest.raises(InputError, match="is outside the folders"):
        services.lora_tools.extract(str(outside), str(outside), "", 2)
    with pytest.raises(InputError, match="outside the folders"):
        services.lora_tools.resize("../../../secret.safetensors", "", 2)


def test_a_stop_leaves_no_file(services, paths, checkpoints):
    checkpoints(trained())
    services.jobs.tasks.add("forecast", lambda _: time.sleep(0.3) or {})
    task = services.lora_tools.extract("dog", "base", "", 2)
    task.stop()
    assert ended(task).state == "stopped" and list(paths.lora.glob("*")) == []


def test_one_layer_is_in_memory_at_a_time(services, paths, checkpoints, monkeypatch):
    from lib_finetune.app import extracted_lora

    checkpoints(trained())
    alive, most = set(), 0
    real = extracted_lora._LazyTensors.__getitem__

    def counted(self, name):
        nonlocal most
        import weakref

        value = real(self, name)
        alive.add(id(value))
        weakref.finalize(value, alive.discard, id(value))
        most = max(most, len(alive))
        return value

    monkeypatch.setattr(extracted_lora._LazyTensors, "__getitem__", counted)
    done(services.lora_tools.extract("dog", "base", "", 2))
    assert 0 < most <= 4  # of both checkpoints, and what the loop has not let go of yet


# -- resized -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def lora(paths):
    def write(name="cat", rank=6, mid=False, more=None, dtype=torch.float32):
        generator = torch.Generator().manual_seed(1)

        def random(*shape):
            return torch.randn(shape, generator=generator).to(dtype)

        linear, conv = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q", "lora_unet_mid_block_resnets_0_conv1"
        tensors = {
            f"{linear}.lora_down.weight": random(rank, 64), f"{linear}.lora_up.weight": random(64, rank), f"{linear}.alpha": torch.tensor(3.0),
            f"{conv}.lora_up.weight": random(64, rank, 1, 1), f"{conv}.alpha": torch.tensor(float(rank)),
        }  # fmt: skip
        if mid:
            tensors |= {f"{conv}.lora_down.weight": random(rank, 64, 1, 1), f"{conv}.lora_mid.weight": random(rank, rank, 3, 3)}
        else:
            tensors[f"{conv}.lora_down.weight"] = random(rank, 64, 3, 3)
        save_file({**tensors, **(more or {})}, paths.lora / f"{name}.safetensors", {"ss_network_dim": "6", "ss_output_name": name})

    return write


def changes(file):
    """Module → the change of its weight."""
    from lib_finetune.model.lora_change import delta

    shapes = {"to_q": (64, 64), "conv1": (64, 64, 3, 3)}
    return {
        module: delta(parts, torch.Size(shapes["conv1" if module.endswith("conv1") else "to_q"]), torch.device("cpu"))
        for module, parts in by_module(load_file(str(file))).items()
    }


@pytest.mark.parametrize("mid", [False, True])
def test_at_its_full_rank_the_change_is_the_same(services, paths, lora, mid):
    lora(mid=mid)
    for name, rank, share in (("r", 64, None), ("s", None, 1.0)):
        answer = done(services.lora_tools.resize("cat", name, rank, share, precision="fp32"))
        before, after = changes(paths.lora / "cat.safetensors"), changes(paths.lora / f"{name}.safetensors")
        assert before.keys() == after.keys() and answer["lost"] < 1e-5
        for module, change in before.items():
            assert torch.allclose(after[module], change, atol=1e-4 * float(change.abs().max())), module


def test_a_lower_rank_is_the_best_of_that_rank(services, paths, lora):
    lora()
    answer = done(services.lora_tools.resize("cat", "small", 2, precision="fp32"))
    before, after = changes(paths.lora / "cat.safetensors"), changes(paths.lora / "small.safetensors")
    for module, change in before.items():
        values = torch.linalg.svdvals(change.flatten(1).double())
        assert float((change - after[module]).norm()) == pytest.approx(float(values[2:].norm()), rel=1e-3)
    assert "Before rank 6, now rank 2" in answer["lines"][0] and answer["lost"] > 0.3
    assert metadata(paths.lora / "small.safetensors")["ss_network_dim"] == "2"
    assert metadata(paths.lora / "small.safetensors")["ss_output_name"] == "small"


def test_words_and_whole_differences_stay_as_they_are(services, paths, lora):
    word, norm = torch.randn(2, 32), torch.randn(64)
    lora(more={"bundle_emb.zxq.string_to_param.*": word, "lora_unet_mid_block_resnets_0_norm1.w_norm": norm})
    done(services.lora_tools.resize("cat", "small", 2, precision="fp32"))
    after = load_file(str(paths.lora / "small.safetensors"))
    assert torch.equal(after["bundle_emb.zxq.string_to_param.*"], word)
    assert torch.equal(after["lora_unet_mid_block_resnets_0_norm1.w_norm"], norm)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (dict.fromkeys(("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"), torch.ones(4, 4)), "a LoHa"),
        ({"lokr_w1": torch.ones(2, 2), "lokr_w2": torch.ones(32, 32)}, "a LoKr"),
        ({"lora_down.weight": torch.ones(2, 64), "lora_up.weight": torch.ones(64, 2), "dora_scale": torch.ones(1, 64)}, "a DoRA"),
        ({"lora_down.weight": torch.ones(2, 64), "lora_up.weight": torch.ones(64, 3)}, "does not fit"),
    ],
)
def test_what_has_no_rank_is_called_by_its_kind(services, paths, lora, parts, said):
    lora(more={f"lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_k.{part}": value.clone() for part, value in parts.items()})
    task = ended(services.lora_tools.resize("cat", "small", 2))
    assert task.state == "failed" and said in task.message and not (paths.lora / "small.safetensors").exists()


def test_a_checkpoint_and_a_lora_of_sdxl_are_no_lora_of_ours(services, paths, lora, checkpoints):
    checkpoints(tiny_tensors())
    task = ended(services.lora_tools.resize(str(paths.checkpoints / "dog.safetensors"), "small", 2))
    assert task.state == "failed" and "it is a checkpoint" in task.message
    lora(more={"lora_te2_text_model_encoder_layers_0_mlp_fc1.alpha": torch.tensor(1.0)})
    task = ended(services.lora_tools.resize("cat", "small", 2))
    assert task.state == "failed" and "SDXL" in task.message


def test_a_file_that_the_hosts_loader_does_not_take_is_said_to_be_so(services, paths, lora):
    lora(more={f"lora_unet_elsewhere.{part}": torch.ones(2, 2) for part in ("lora_down.weight", "lora_up.weight")})
    task = ended(services.lora_tools.resize("cat", "small", 2))
    assert task.state == "failed" and "small.safetensors was written, but 2 of 3 modules" in task.message
