"""DreamBooth: the model itself learns, on its own copy; what is saved is a whole checkpoint that others read."""

import dataclasses
import gc
import hashlib
import json
import re
import shutil
import weakref

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from lib_finetune.assembly import automatic_settings, builder
from lib_finetune.config import codec
from lib_finetune.config.settings import Settings
from lib_finetune.errors import CheckpointChangedError, DivergedError, HostError, InputError, OutOfMemoryError, SaveError
from lib_finetune.estimates import memory_model, memory_plan
from lib_finetune.model import checkpoint_reader, layout
from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.random_weights import small_layout
from lib_finetune.ports.host import MemoryUse
from lib_finetune.ports.pictures import PICTURE_BYTES
from lib_finetune.runs import artifacts
from lib_finetune.runs.class_images import ClassPictures
from lib_finetune.runs.folder import CHECKPOINT, STATE
from lib_finetune.training import state
from lib_finetune.training.methods import denoising
from lib_finetune.training.optim.per_parameter import PerParameter
from tests.fakes.host import FakeHost, Recorder
from tests.fakes.pictures import draw
from tests.fakes.runs import Bench, metadata, same, settings, tensors

WHOLE = {"method": "dreambooth", "training.steps": "3", "optimizer.unet_rate": "1e-3", "optimizer.text_encoder_rate": "1e-3"}
RARE = {"data.trigger": "sks"}


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


class FiledHost(FakeHost):
    """Its checkpoint lies in a file, as people's do: fp16, with an average and a schedule beside the weights."""

    def __init__(self, root, suffix=".safetensors"):
        super().__init__(root)
        self.held.tensors = {name: tensor.half().float() for name, tensor in self.held.tensors.items()}
        path = root / f"base{suffix}"
        root.mkdir(parents=True, exist_ok=True)
        self.stored = {name: tensor.half() for name, tensor in self.held.tensors.items()}
        self.stored["betas"] = torch.linspace(0, 1, 1000)
        self.stored["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77).unsqueeze(0)
        whole = {**self.stored, "model_ema.decay": torch.ones(1)}
        if suffix == ".safetensors":
            save_file(whole, path, {"text_encoder_heads": "2"})
        else:
            torch.save({"state_dict": whole}, path)
        digits = checkpoint_reader.sha256(path)
        self.held.info = dataclasses.replace(self.held.info, name="base", path=path, sha256=digits, short_hash=digits[:10])

    def load(self, wanted):
        self.loaded = wanted


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_the_file_is_the_base_but_for_what_was_trained(bench, suffix):
    host = FiledHost(bench.root / "host", suffix)
    (bench.root / "host" / "base.yaml").write_text("model: {}", encoding="utf-8")
    before = {name: tensor.clone() for name, tensor in host.held.tensors.items()}
    result, recorder, _ = bench.run(WHOLE | RARE, host=host)
    assert result.file == host.paths.checkpoints / "cat.safetensors" and result.restoration.differences == ()
    assert same(before, host.held.tensors)
    file = load_file(str(result.file))
    assert file.keys() == host.stored.keys()
    untrained = [name for name in file if not name.startswith((layout.UNET, layout.TEXT)) or "position_ids" in name]
    assert untrained and all(torch.equal(file[name], host.stored[name]) for name in untrained)
    moved = [name for name in file if name not in untrained and not torch.equal(file[name], host.stored[name])]
    assert len(moved) > 0.9 * (len(file) - len(untrained)) and {file[name].dtype for name in moved} == {torch.float16}
    assert any(name.startswith(layout.TEXT) for name in moved) and any(name.startswith(layout.UNET) for name in moved)
    assert metadata(result.file)["modelspec.trigger_phrase"] == "sks" and str(bench.root) not in str(metadata(result.file))
    assert result.file.with_suffix(".yaml").read_text() == "model: {}"
    assert any("written from memory" in line for line in recorder.lines) is False
    assert "cat.safetensors is ready: choose cat at the top left" in recorder.lines[-2]


def test_what_was_trained_is_in_the_file_as_it_was(bench, monkeypatch):
    """Key by key: the file holds the trained weights rounded to its precision, and nothing else."""
    from lib_finetune.training.methods.dreambooth import DreamBoothMethod

    seen = {}
    real = DreamBoothMethod.artifact
    monkeypatch.setattr(DreamBoothMethod, "artifact", lambda self: seen.setdefault("last", {k: v.clone() for k, v in real(self).items()}))
    result, _, _ = bench.run(WHOLE | RARE, host=FiledHost(bench.root / "host"))
    file = load_file(str(result.file))
    assert all(torch.equal(file[name], value.half().reshape(file[name].shape)) for name, value in seen["last"].items())


def test_diffusers_reads_the_file(bench):
    """Its own converter, to its own models: the same prediction as from the names in our file."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint

    result, _, _host = bench.run(WHOLE | RARE, host=FiledHost(bench.root / "host"))
    file = {name: value.float() for name, value in load_file(str(result.file)).items() if name != "betas"}
    model = BorrowedModel(small_layout())
    model.bind({name: value for name, value in file.items() if "position_ids" not in name})
    from diffusers import AutoencoderKL, UNet2DConditionModel

    unet = UNet2DConditionModel(**small_layout().unet)
    unet.load_state_dict(convert_ldm_unet_checkpoint(dict(file), {**unet.config, "layers_per_block": 2}))
    noisy, cond = torch.randn(1, 4, 8, 8), torch.randn(1, 77, unet.config.cross_attention_dim)
    with torch.no_grad():
        torch.testing.assert_close(unet(noisy, 3, cond).sample, model.unet(noisy, 3, cond).sample)
    vae = AutoencoderKL(**small_layout().vae)
    vae.load_state_dict(convert_ldm_vae_checkpoint(dict(file), vae.config))


def test_a_ckpt_is_read_by_old_and_strict_readers(bench):
    result, _, _ = bench.run(WHOLE | RARE | {"tuning.format": "ckpt"}, host=FiledHost(bench.root / "host"))
    assert result.file.suffix == ".ckpt" and result.file.read_bytes()[:2] != b"PK"
    assert set(torch.load(result.file, weights_only=True)["state_dict"]) == set(FiledHost(bench.root / "other").stored)


def test_a_changed_base_file_is_not_used(bench):
    host = FiledHost(bench.root / "host")
    host.held.info.path.unlink()
    result, recorder, _ = bench.run(WHOLE | RARE, host=host)
    assert any("base is gone or has changed" in line for line in recorder.lines)
    assert load_file(str(result.file)).keys() == host.held.tensors.keys()


FORMS = {
    "exact": {"tuning.weights": "fp32", "tuning.in_backward": "off"},
    "bf16": {"tuning.weights": "bf16", "tuning.in_backward": "off", "tuning.text_encoder_until": "0"},
    "small": {
        "tuning.weights": "bf16",
        "tuning.in_backward": "on",
        "optimizer.name": "adafactor",
        "training.gradient_checkpointing": "true",
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_goes_on_exactly(bench, form):
    changes = WHOLE | RARE | FORMS[form] | {"training.steps": "2", "saving.precision": "fp32"}
    whole, _, host = bench.run(changes, folder="whole")
    other = bench.host("stopped")
    _, _first, _ = bench.run(changes, host=other, folder="halves", recorder=Recorder(stop_at=1))
    for path in other.paths.checkpoints.iterdir():
        path.unlink()
    assert (other.paths.data / "runs" / "halves" / STATE).exists()
    other.memory = lambda: MemoryUse(0, 0, 0, 1)  # what is free now does not matter to a run that goes on
    again, second, _ = bench.run(changes, host=other, folder="halves")
    assert second.losses and same(tensors(whole.file), tensors(again.file))
    held = {value.dtype for value in host.held.tensors.values()}
    assert held == {torch.float32}


class ChannelsLast(FakeHost):
    """The WebUI's model with --opt-channelslast."""

    def __init__(self, root):
        super().__init__(root)
        last = torch.channels_last
        self.held.tensors = {name: value.to(memory_format=last) if value.ndim == 4 else value for name, value in self.held.tensors.items()}


def moved(result):
    """Names of the trained weights that are not the host's any more."""
    before = FakeHost(result.file.parent / "fresh").held.tensors
    return {name for name, value in load_file(str(result.file)).items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize("placed", ["beside", "exchange"])
@pytest.mark.parametrize("form", [*FORMS, "fp32, in backward"])
def test_with_channels_last_every_form_trains_every_weight(bench, form, placed):
    alone = {"tuning.weights": "fp32", "tuning.in_backward": "on"}
    changes = WHOLE | RARE | FORMS.get(form, alone) | {"training.steps": "1", "saving.precision": "fp32", "tuning.host_weights": placed}
    plain, _, _ = bench.run(changes)
    host = ChannelsLast(bench.root / "last")
    last, _, _ = bench.run(changes, host=host)
    still = moved(plain) - moved(last)
    assert not still and any(
        value.is_contiguous(memory_format=torch.channels_last) for value in host.held.tensors.values() if value.ndim == 4
    )
    kernels = {
        name for name, value in host.held.tensors.items() if value.ndim == 4 and value.shape[2] == 3 and name.startswith(layout.UNET)
    }
    assert kernels <= moved(last)


@pytest.mark.parametrize("form", ["exact", "fp32, in backward"])
def test_with_channels_last_a_form_goes_on_exactly(bench, form):
    alone = {"tuning.weights": "fp32", "tuning.in_backward": "on"}
    changes = WHOLE | RARE | FORMS.get(form, alone) | {"saving.precision": "fp32", "training.ema_decay": "0.9" if form == "exact" else "0"}
    whole, _, _ = bench.run(changes, host=ChannelsLast(bench.root / "whole"))
    other = ChannelsLast(bench.root / "stopped")
    stopped, _, _ = bench.run(changes, host=other, recorder=Recorder(stop_at=1))
    stopped.file.unlink()
    again, _, _ = bench.run(changes, host=other)
    assert same(tensors(whole.file), tensors(again.file))


@pytest.mark.parametrize("suffix", ["safetensors", "ckpt"])
def test_a_file_has_nothing_of_channels_last(bench, suffix):
    result, _, _ = bench.run(WHOLE | RARE | {"training.steps": "1", "tuning.format": suffix}, host=ChannelsLast(bench.root / "last"))
    found = load_file(str(result.file)) if suffix == "safetensors" else torch.load(result.file, weights_only=True)["state_dict"]
    assert found and all(value.is_contiguous() for value in found.values())


class Visited(FakeHost):
    """Somebody wants an image after every step; what lies where in that moment is looked at."""

    def __init__(self, root):
        super().__init__(root)
        self.assembly, self.seen = None, []

    def waiting(self):
        return True

    def between_turns(self):
        assembly = self.assembly
        if assembly is None:
            return
        away = {id(tensor) for tensor, _ in assembly.swap._parking._away}
        held = list(assembly.trainer.held())
        self.seen.append((len(held), all(id(tensor) in away for tensor in held)))


def visited(bench, monkeypatch, where):
    """A host that sees the assembly of its run; turns end with each step."""
    monkeypatch.setattr("lib_finetune.training.turns.Turns.__init__.__defaults__", (0.0,))
    host, real = Visited(bench.root / where), builder.bind

    def bind(*args, **named):
        host.assembly = real(*args, **named)
        return host.assembly

    monkeypatch.setattr(builder, "bind", bind)
    return host


EXCHANGED = {"tuning.host_weights": "exchange"}


@pytest.mark.parametrize("form", FORMS)
def test_models_that_change_places_learn_the_same(bench, monkeypatch, form):
    changes = WHOLE | RARE | FORMS[form] | {"saving.precision": "fp32"}
    whole, _, _ = bench.run(changes | {"tuning.host_weights": "beside"})
    host = visited(bench, monkeypatch, "other")
    before, steps = {name: tensor.clone() for name, tensor in host.held.tensors.items()}, int(WHOLE["training.steps"])
    result, recorder, _ = bench.run(changes | EXCHANGED, host=host, folder="other")
    assert same(tensors(whole.file), tensors(result.file)) and same(before, host.held.tensors)
    assert result.restoration.differences == ()
    assert len(host.seen) >= steps and all(parked for _, parked in host.seen)
    assert host.seen[-1][0] > host.seen[0][0]  # the optimizer's state has come to it
    assert sum("Swapped the " in line for line in recorder.lines) == 1
    assert any(f"were swapped {steps} times" in line for line in recorder.lines)


def test_only_the_parts_that_a_step_needs_stay_on_the_device(bench, monkeypatch):
    from lib_finetune.model.parking import Parking

    def away(changes, where):
        host, sent = visited(bench, monkeypatch, where), set()
        names = {id(tensor): name for name, tensor in host.held.tensors.items()}
        real = Parking.send

        def send(self, moved):
            moved = list(moved)
            sent.update(names[id(tensor)] for tensor in moved if id(tensor) in names)
            real(self, moved)

        with monkeypatch.context() as patched:
            patched.setattr(Parking, "send", send)
            bench.run(WHOLE | RARE | EXCHANGED | changes, host=host, folder=where)
        return {part for part, prefix in layout.PREFIXES.items() if any(name.startswith(prefix) for name in sent)}

    assert away({"objective.prior": "off"}, "all") == {"unet", "text", "vae"}
    assert away({"objective.prior": "off", "tuning.text_encoder_until": "0"}, "text") == {"unet", "vae"}
    assert away({"objective.prior": "prediction"}, "prior") == {"vae"}


def test_an_exchanged_run_goes_on_exactly_and_all_of_it_moves(bench, monkeypatch):
    changes = WHOLE | RARE | {"training.steps": "2", "saving.precision": "fp32", "training.ema_decay": "0.9"}
    whole, _, _ = bench.run(changes, folder="whole")
    other = visited(bench, monkeypatch, "stopped")
    bench.run(changes | EXCHANGED, host=other, folder="halves", recorder=Recorder(stop_at=1))
    for path in other.paths.checkpoints.iterdir():
        path.unlink()
    other.seen.clear()
    again, _, _ = bench.run(changes | EXCHANGED, host=other, folder="halves")
    assert same(tensors(whole.file), tensors(again.file))
    assert other.seen and all(parked for _, parked in other.seen)  # the state that was read, too


def test_a_run_that_goes_on_may_change_the_place_of_the_hosts_model(bench):
    changes = WHOLE | RARE | {"training.steps": "2"}
    host = bench.host()
    bench.run(changes, host=host, recorder=Recorder(stop_at=1))
    for path in host.paths.checkpoints.iterdir():
        path.unlink()
    _, recorder, _ = bench.run(changes | EXCHANGED, host=host)
    assert any("Resuming at step 1" in line for line in recorder.lines) and any("Swapped the" in line for line in recorder.lines)


def test_while_nobody_waits_nothing_moves_and_progress_is_told(bench, monkeypatch):
    monkeypatch.setattr("lib_finetune.training.turns.Turns.__init__.__defaults__", (0.0,))
    _, recorder, _ = bench.run(WHOLE | RARE | EXCHANGED)
    assert any("were swapped 1 times" in line for line in recorder.lines)
    assert [len(report.losses) for report in recorder.reports] == [1, 1, 1]


def test_a_main_memory_that_fills_up_gives_the_host_back_and_keeps_the_last_state(bench, monkeypatch):
    from lib_finetune.model.parking import Parking

    host = visited(bench, monkeypatch, "host")
    before, real, ours = {name: tensor.clone() for name, tensor in host.held.tensors.items()}, Parking.send, []

    def send(self, moved):
        moved = list(moved)
        if any(isinstance(tensor, torch.nn.Parameter) for tensor in moved):
            ours.append(1)
            if len(ours) == 3:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        real(self, moved)

    monkeypatch.setattr(Parking, "send", send)
    with pytest.raises(OutOfMemoryError, match="Main memory has no room"):
        bench.run(WHOLE | RARE | EXCHANGED | {"saving.state_every": "1"}, host=host)
    assert same(before, host.held.tensors) and not host.lock.locked()
    assert state.load(host.paths.data / "runs" / "run" / STATE)["trainer"]["step"] == 1


def test_the_text_encoder_stops_after_its_share(bench, monkeypatch):
    seen = []
    real = builder.precision.Precision.step

    def watched(self, optimizer, *args):
        seen.append({group["name"]: group["lr"] > 0 for group in optimizer.param_groups}.get("text encoder"))
        return real(self, optimizer, *args)

    monkeypatch.setattr(builder.precision.Precision, "step", watched)
    bench.run(WHOLE | RARE | {"training.steps": "4", "tuning.text_encoder_until": "0.5"})
    assert seen == [True, True, False, False]
    _, _, host = bench.run(WHOLE | RARE | {"tuning.text_encoder_until": "0", "name": "dog", "saving.precision": "fp32"})
    file = load_file(str(host.paths.checkpoints / "dog.safetensors"))
    text = [name for name in file if name.startswith(layout.TEXT)]
    assert text and all(torch.equal(file[name], host.held.tensors[name]) for name in text)


def test_a_stopped_text_encoder_gets_no_gradient(bench, monkeypatch):
    from lib_finetune.training.methods.dreambooth import DreamBoothMethod

    counts = []
    real = DreamBoothMethod.after_step
    monkeypatch.setattr(
        DreamBoothMethod,
        "after_step",
        lambda self: (counts.append([p.requires_grad for p in self.parameters()["text encoder"].values()]), real(self)),
    )
    bench.run(WHOLE | RARE | {"training.steps": "2", "tuning.text_encoder_until": "0.5"})
    assert all(counts[0]) and not any(counts[1])


def test_prior_prediction_holds_the_base_at_the_class_caption(bench, monkeypatch):
    """Its targets are what the untouched model predicts; with a heavy weight the model stays near it."""
    targets = []
    real = denoising.Denoiser._compare

    def compare(self, prediction, target, *rest):
        targets.append((prediction.detach(), target))
        return real(self, prediction, target, *rest)

    monkeypatch.setattr(denoising.Denoiser, "_compare", compare)
    bench.run(WHOLE | RARE | {"objective.prior": "prediction", "training.steps": "2"})
    prediction, target = targets[0]
    torch.testing.assert_close(prediction[1], target[1], atol=1e-4, rtol=1e-3)
    assert len(target) == 2 and (prediction[0] - target[0]).abs().max() > 0.1
    prediction, target = targets[1]
    assert (prediction[1] - target[1]).abs().max() > 0.01  # the model has moved, the base has not


def test_the_base_predicts_for_lora_too(bench, monkeypatch):
    targets = []
    real = denoising.Denoiser._compare
    monkeypatch.setattr(
        denoising.Denoiser, "_compare", lambda self, p, t, *rest: (targets.append((p.detach(), t)), real(self, p, t, *rest))[1]
    )
    for adapter in ("lora", "loha"):
        targets.clear()
        bench.run({"objective.prior": "prediction", "optimizer.unet_rate": "0.05", "network.adapter": adapter, "name": adapter})
        torch.testing.assert_close(targets[0][0][1], targets[0][1][1], atol=1e-4, rtol=1e-3)
        assert (targets[-1][0][1] - targets[-1][1][1]).abs().max() > 0.01


def test_class_pictures_are_made_once(bench):
    changes = WHOLE | RARE | {"data.class_count": "6", "training.steps": "2"}
    _, recorder, host = bench.run(changes)
    made = [request for request in host.asked if request.prompt == "a photo of cat"]
    assert [request.seed for request in made] == [1, 5]
    assert any("have 0, need 6" in line for line in recorder.lines) and "class images" in recorder.stages
    _, again, _ = bench.run({**changes, "name": "dog"}, host=host, folder="second")
    assert len([request for request in host.asked if request.prompt == "a photo of cat"]) == 2
    assert any("are there from an earlier run" in line for line in again.lines)
    assert not any("about.json" in line for line in again.lines), "it is our own"
    _, more, _ = bench.run({**changes, "name": "cow", "data.class_count": "9"}, host=host, folder="third")
    assert any("have 6, need 9, about" in line for line in more.lines)
    assert [request.seed for request in host.asked if request.prompt == "a photo of cat"] == [1, 5, 7]


def test_class_pictures_depend_on_checkpoint_prompt_and_size(bench):
    host = bench.host()
    info = host.checkpoint()
    folders = {
        ClassPictures(host.pictures, host.paths.data, info, "a photo of cat", 64).folder,
        ClassPictures(host.pictures, host.paths.data, info, "a photo of dog", 64).folder,
        ClassPictures(host.pictures, host.paths.data, info, "a photo of cat", 128).folder,
        ClassPictures(host.pictures, host.paths.data, dataclasses.replace(info, sha256="cd" * 32), "a photo of cat", 64).folder,
        ClassPictures(host.pictures, host.paths.data, dataclasses.replace(info, vae="other"), "a photo of cat", 64).folder,
    }
    assert len(folders) == 5


def test_class_pictures_of_an_earlier_version_are_made_again(bench):
    """Those of the first one were made with what other extensions had left behind; their folder's name did not tell a version."""
    host = bench.host()
    made_with = [host.checkpoint().sha256, None, "a photo of cat", 64, 25, 7.0]
    old = host.paths.data / "classes" / hashlib.sha256(json.dumps(made_with).encode("utf-8")).hexdigest()[:16]
    old.mkdir(parents=True)
    for number in range(1, 7):
        Image.new("RGB", (64, 64)).save(old / f"{number:05d}.png")
    _, recorder, _ = bench.run(WHOLE | RARE | {"data.class_count": "6", "training.steps": "1"}, host=host)
    assert any("have 0, need 6" in line for line in recorder.lines)
    new = ClassPictures(host.pictures, host.paths.data, host.checkpoint(), "a photo of cat", 64, 1).folder
    assert new != old and json.loads((new / "about.json").read_text())["version"] == 2


def test_a_stop_keeps_the_class_pictures_that_are_ready(bench):
    class Impatient(Recorder):
        def stop_asked(self):
            return self.stages.count("class images") >= 1

    result, recorder, host = bench.run(WHOLE | RARE | {"data.class_count": "9"}, recorder=Impatient())
    assert result.outcome == "discarded" and result.file is None
    assert len(list((host.paths.data / "classes").rglob("*.png"))) == 4
    assert any("are kept for the next run" in line for line in recorder.lines)


def test_a_headless_host_makes_class_pictures_in_batches(bench, tmp_path):
    from lib_finetune.host.headless.pictures import HeadlessPictures

    host = bench.host()
    from lib_finetune.ports.pictures import PictureRequest

    request = PictureRequest("a cat", width_px=64, height_px=64, steps=2)
    first, second = HeadlessPictures.make_batch(host.pictures, request, 2)
    alone = HeadlessPictures.make_batch(host.pictures, dataclasses.replace(request, seed=2), 1)[0]
    import numpy as np

    assert np.abs(np.asarray(second, dtype=int) - np.asarray(alone, dtype=int)).max() <= 1 and first != second


def test_the_last_preview_comes_from_the_saved_file(bench):
    import numpy as np

    from lib_finetune.host.headless.host import HeadlessHost
    from lib_finetune.host.headless.pictures import HeadlessPictures
    from lib_finetune.ports.pictures import PictureRequest

    host = FiledHost(bench.root / "host")
    result, _, _ = bench.run(WHOLE | RARE | {"preview.enabled": "true", "saving.precision": "fp32"}, host=host)
    assert host.asked[-1].checkpoint == result.file and result.file.with_suffix(".png").exists()
    request = PictureRequest("a photo of sks cat", width_px=64, height_px=64, steps=3)
    shown = HeadlessPictures.make_batch(host.pictures, dataclasses.replace(request, checkpoint=result.file), 1)[0]
    own = HeadlessHost(
        {name: value for name, value in checkpoint_reader.read(result.file, torch.float32, torch.device("cpu")).items() if name in host.held.tensors},
        host.held.info, bench.root / "own", text_heads=2,
    )  # fmt: skip
    own.text_tools = host.text_tools
    assert np.array_equal(np.asarray(shown), np.asarray(own.pictures.make(request)))
    assert not np.array_equal(np.asarray(shown), np.asarray(HeadlessPictures.make_batch(host.pictures, request, 1)[0]))


def test_the_difference_is_saved_small_too(bench):
    host = FiledHost(bench.root / "host")
    result, recorder, _ = bench.run(WHOLE | RARE | {"tuning.lora_rank": "4"}, host=host)
    small = tensors(host.paths.lora / "cat.safetensors")
    said = next(line for line in recorder.lines if "as a LoRA of rank 4" in line)
    trained = load_file(str(result.file))
    name = layout.UNET + "middle_block.1.transformer_blocks.0.attn1.to_q.weight"
    kohya = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    delta = trained[name].float() - host.stored[name].float()
    near = small[f"{kohya}.lora_up.weight"].float() @ small[f"{kohya}.lora_down.weight"].float()
    best = torch.linalg.svdvals(delta)[4:].square().sum().sqrt()
    assert (delta - near).norm() < 1.2 * best + 1e-3 and "% of it is lost" in said


def test_it_is_chosen_afterwards_if_wished(bench):
    host = FiledHost(bench.root / "host")
    result, _, _ = bench.run(WHOLE | RARE | {"tuning.select": "true"}, host=host)
    assert host.loaded.path == result.file


def test_a_loss_that_is_no_number_keeps_the_last_state(bench, monkeypatch):
    from lib_finetune.training.methods.dreambooth import DreamBoothMethod

    real = DreamBoothMethod.loss
    count = iter(range(100))

    def loss(self, batch, generator):
        value, scalars = real(self, batch, generator)
        return (value * float("nan") if next(count) == 5 else value), scalars

    monkeypatch.setattr(DreamBoothMethod, "loss", loss)
    host = bench.host()
    with pytest.raises(DivergedError):
        bench.run(WHOLE | RARE | {"training.steps": "12", "saving.state_every": "3"}, host=host)
    stored = state.load(host.paths.data / "runs" / "run" / STATE)
    assert stored["trainer"]["step"] == 3 and not list(host.paths.checkpoints.glob("*"))
    assert all(bool(torch.isfinite(value).all()) for value in stored["trainer"]["parameters"].values())


def test_out_of_memory_within_a_step_keeps_the_last_whole_state(bench, monkeypatch):
    from lib_finetune.training.optim import per_parameter

    real, count = per_parameter._Mover.move, iter(range(10**6))
    per_step = len(list(BorrowedModel(small_layout()).slots)) // 3

    def move(self):
        if next(count) > 4 * per_step:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        real(self)

    monkeypatch.setattr(per_parameter._Mover, "move", move)
    host = bench.host()
    before = {name: tensor.clone() for name, tensor in host.held.tensors.items()}
    recorder = Recorder()
    with pytest.raises(OutOfMemoryError):
        bench.run(
            WHOLE | RARE | {"tuning.in_backward": "on", "saving.state_every": "1", "training.steps": "50"}, host=host, recorder=recorder
        )
    assert any("the last saved state is kept" in line for line in recorder.lines) and same(before, host.held.tensors)
    assert (host.paths.data / "runs" / "run" / STATE).exists()


# -- after a fault, and afterwards -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["done", "discarded", "failed"])
def test_nothing_of_a_run_stays_in_memory(bench, monkeypatch, ending):
    """Hooks of the backward pass lie where the collector does not see them; what they hold would stay for good."""
    seen = []
    real = PerParameter.__init__

    def init(self, *args, **kwargs):
        real(self, *args, **kwargs)
        seen.append(weakref.ref(self))
        seen.extend(weakref.ref(mover.optimizer) for mover in self._movers[:3])

    monkeypatch.setattr(PerParameter, "__init__", init)
    host, recorder = bench.host(), Recorder(stop_at=2, discard=True) if ending == "discarded" else Recorder()
    if ending == "failed":
        host.faults["artifact_saved"] = (0, HostError("no"))
    error = None
    try:
        bench.run(WHOLE | RARE | FORMS["small"] | {"optimizer.name": "adamw"}, host=host, recorder=recorder)
    except HostError as found:
        error = found  # a job keeps it to show it
    assert (error is not None) == (ending == "failed") and len(seen) == 4
    assert not any(ref().state for ref in seen[1:] if ref() is not None)
    error = None
    host.faults.clear()
    gc.collect()
    assert [ref() for ref in seen] == [None] * 4


def test_a_file_that_cannot_be_written_at_the_end_does_not_take_the_training_with_it(bench, monkeypatch):
    host = bench.host()
    straight, _, _ = bench.run(WHOLE | RARE, host=bench.host("straight"))
    real = artifacts.Artifacts.write_result
    monkeypatch.setattr(artifacts.Artifacts, "write_result", lambda *_, **__: (_ for _ in ()).throw(SaveError("the disk is full")))
    with pytest.raises(SaveError, match="disk is full"):
        bench.run(WHOLE | RARE, host=host)
    assert state.load(host.paths.data / "runs" / "run" / STATE)["trainer"]["step"] == 3
    monkeypatch.setattr(artifacts.Artifacts, "write_result", real)
    result, recorder, _ = bench.run(WHOLE | RARE, host=host)
    assert any("Resuming at step 3 of 3" in line for line in recorder.lines) and same(tensors(straight.file), tensors(result.file))


def test_a_base_file_that_cannot_be_read_is_made_up_for_from_memory(bench):
    host = FiledHost(bench.root / "host")
    host.held.info.path.write_bytes(b"no checkpoint any more, but with the digits of the run")
    host.held.info = dataclasses.replace(host.held.info, sha256=checkpoint_reader.sha256(host.held.info.path))
    result, recorder, _ = bench.run(WHOLE | RARE, host=host)
    assert any("written from memory: " in line and "cannot be read" in line for line in recorder.lines)
    assert host.stored.keys() >= load_file(str(result.file)).keys() >= {name for name in host.stored if name.startswith(layout.UNET)}


def test_a_checkpoint_that_cannot_be_chosen_now_is_ready_all_the_same(bench):
    host = FiledHost(bench.root / "host")

    def load(wanted):
        raise HostError("no room")

    host.load = load
    result, recorder, _ = bench.run(WHOLE | RARE | {"tuning.select": "true"}, host=host)
    assert result.outcome == "done" and result.file.exists()
    assert any("is ready, but the WebUI could not load it now: no room" in line for line in recorder.lines)


@pytest.mark.parametrize("stops", [False, True])
def test_another_checkpoint_while_class_pictures_are_made_is_waited_for(bench, stops):
    host, recorder, calls = bench.host(), Recorder(), []
    real = host.pictures.make_batch

    def pictures(request, count):
        calls.append(count)
        if len(calls) == 2:
            raise CheckpointChangedError("tiny", "other")
        return real(request, count)

    host.pictures.make_batch = pictures
    recorder.stop_asked = lambda: stops and len(calls) >= 2
    result, _, _ = bench.run(WHOLE | RARE | {"data.class_count": "10"}, host=host, recorder=recorder)
    assert result.outcome == ("discarded" if stops else "done") and ("waiting for tiny" in recorder.stages) != stops


# -- the form ---------------------------------------------------------------------------------------------------------

SMALLEST = "bf16 weights, adafactor, stepping in the backward pass, gradient checkpointing"
FULL = memory_model.Work(860_000_000 + 123_000_000, 512 * 512, True)


@pytest.mark.parametrize(
    ("free", "form"),
    [
        (24, "fp32 weights, adamw"),
        (12, "bf16 weights, adamw, stepping in the backward pass"),
        (3.2, "bf16 weights, adafactor, stepping in the backward pass, gradient checkpointing"),
        (0, "fp32 weights, adamw"),
    ],
)
def test_the_form_follows_the_free_memory(free, form):
    assert str(memory_model.choose(memory_model.Wish(), FULL, memory_model.Room(int(free * memory_model.GIB)))) == form


@pytest.mark.parametrize(
    ("free", "away", "ram", "form"),
    [
        (3.3, 1.9, 16, SMALLEST),
        (1.0, 1.9, 16, SMALLEST + ", changing places with the WebUI's model"),
        (2.8, 1.9, 16, "bf16 weights, adafactor, stepping in the backward pass, changing places with the WebUI's model"),
        (2.8, 1.9, 0, "bf16 weights, adafactor, stepping in the backward pass, changing places with the WebUI's model"),
    ],
)
def test_the_models_change_places_where_they_do_not_fit_together(free, away, ram, form):
    sizes = [int(value * memory_model.GIB) for value in (free, ram, 0, away)]
    room = memory_model.Room(*sizes, picture=PICTURE_BYTES)
    assert str(memory_model.choose(memory_model.Wish(swapped=None), FULL, room)) == form


def test_an_exchange_that_main_memory_cannot_hold_is_refused_with_the_figures():
    room = memory_model.Room(int(1.5 * memory_model.GIB), int(3 * memory_model.GIB), 0, int(1.9 * memory_model.GIB), PICTURE_BYTES)
    with pytest.raises(InputError, match=r"needs 4\.0 GiB of main memory to change places in, and 3\.0 are free"):
        memory_model.choose(memory_model.Wish(swapped=None), FULL, room)


@pytest.mark.parametrize(
    ("free", "form"),
    [
        (20, "fp32 weights, adamw"),
        (14, "fp32 weights, adamw, stepping in the backward pass, gradient checkpointing, computed in fp32"),
        (5.5, "fp32 weights, adafactor, stepping in the backward pass, gradient checkpointing, computed in fp32"),
    ],
)
def test_cards_without_bf16_get_forms_that_work(free, form):
    """fp16 scales losses, for which all gradients must be there; fp32 takes less, then, but for the passing tensors."""
    assert (
        str(memory_model.choose(memory_model.Wish(bf16=False, single=True), FULL, memory_model.Room(int(free * memory_model.GIB)))) == form
    )


def test_precision_and_weights_are_chosen_together(bench, monkeypatch):
    """bf16 weights are computed in bf16 and in nothing else."""
    monkeypatch.setattr("lib_finetune.training.precision.computes_bf16", lambda _: True)
    sizes = {"unet": 1_719_041_928, "text": 246_120_960, "vae": 167_000_000}
    weights = memory_plan.Weights({"unet": 859_520_964, "text": 123_060_480}, sizes, dict.fromkeys(sizes, 0))
    for precision in ("fp32", "fp16"):
        changes = WHOLE | RARE | {"data.resolution": "512", "objective.prior": "off", "training.precision": precision}
        chosen, _ = memory_plan.choose_memory_plan(settings(bench.images, changes), weights, torch.device("cuda"), 20 * memory_model.GIB, 0)
        assert (chosen.tuning.weights, chosen.training.precision) == ("fp32", precision)


def test_prodigy_is_not_parted(bench):
    weights = memory_plan.Weights({"unet": 10**6, "text": 10**5}, *[{"unet": 0, "text": 0, "vae": 0}] * 2)
    chosen = memory_plan.choose_memory_plan(
        settings(bench.images, WHOLE | RARE | {"optimizer.name": "prodigy"}), weights, torch.device("cpu"), 10**10, 0
    )[0]
    assert (chosen.tuning.weights, chosen.tuning.in_backward) == ("fp32", "off")


def test_a_refusal_says_what_was_compared(bench, monkeypatch):
    monkeypatch.setattr("lib_finetune.training.precision.computes_bf16", lambda _: True)
    sizes = {"unet": 1_719_041_928, "text": 246_120_960, "vae": 167_000_000}
    weights = memory_plan.Weights({"unet": 859_520_964, "text": 123_060_480}, sizes, dict.fromkeys(sizes, 0))

    def form(free, **changes):
        given = WHOLE | RARE | {"data.resolution": "512", **{name.replace("__", "."): value for name, value in changes.items()}}
        return memory_plan.choose_memory_plan(
            settings(bench.images, given), weights, torch.device("cuda"), int(free * memory_model.GIB), 0
        )[0]

    assert form(3.2).tuning.host_weights == "beside"  # a card of 6 GB with a screen on it, and the base's own predictions
    with pytest.raises(InputError, match=r"Set data\.class_count to 200") as refused:
        form(2.5)
    needed, free = re.search(r"needs (\S+) GiB free, and (\S+) are", str(refused.value)).groups()
    assert float(needed) > float(free) == 2.5
    assert form(2.5, data__class_count="200").tuning.host_weights == "exchange"
    with pytest.raises(InputError, match=r"Set tuning\.host_weights to auto"):
        form(2.5, data__class_count="200", tuning__host_weights="beside")


def test_with_medvram_a_picture_needs_room_for_the_hosts_unet_too():
    sizes, none = {"unet": 1_719_041_928, "text": 246_120_960, "vae": 167_000_000}, dict.fromkeys(("unet", "text", "vae"), 0)
    weights = memory_plan.Weights({"unet": 859_520_964, "text": 123_060_480}, none, sizes)
    room = memory_plan._room(codec.with_values(Settings(), {"method": "dreambooth"}.items()), weights, torch.device("cuda"), 10, 10)
    assert room.picture == PICTURE_BYTES + sizes["unet"] and room.guests == room.away == 0


def test_a_run_that_goes_on_finds_its_place_anew(bench):
    sizes = {"unet": 1_719_041_928, "text": 246_120_960, "vae": 167_000_000}
    weights = memory_plan.Weights({"unet": 859_520_964, "text": 123_060_480}, sizes, dict.fromkeys(sizes, 0))
    changes = WHOLE | RARE | FORMS["small"] | {"data.resolution": "512", "objective.prior": "off"}
    chosen, card = settings(bench.images, changes), torch.device("cuda")
    places = [memory_plan.placed(chosen, weights, card, int(free * memory_model.GIB), 0).tuning.host_weights for free in (4, 2)]
    assert places == ["beside", "exchange"]
    given = memory_plan.replaced(chosen, "tuning.host_weights", "beside")
    assert memory_plan.placed(given, weights, card, memory_model.GIB, 0).tuning.host_weights == "beside"


def test_an_eight_gigabyte_card_without_bf16_trains(bench, monkeypatch):
    """A GTX 1070 or RTX 2070: 8 GiB, less half a GiB of context, a quarter for the screen, and the WebUI's model."""
    monkeypatch.setattr("lib_finetune.training.precision.computes_bf16", lambda _: False)
    sizes = {"unet": 1_719_041_928, "text": 246_120_960, "vae": 167_000_000}
    weights = memory_plan.Weights({"unet": 859_520_964, "text": 123_060_480}, sizes, dict.fromkeys(sizes, 0))
    free = 8 * memory_model.GIB - memory_model.GIB // 2 - memory_model.GIB // 4 - sum(sizes.values())
    chosen, said = memory_plan.choose_memory_plan(
        settings(bench.images, WHOLE | RARE | {"data.resolution": "512", "objective.prior": "off"}),
        weights,
        torch.device("cuda"),
        free,
        16 * memory_model.GIB,
    )
    assert "computed in fp32" in said and chosen.training.precision == "fp32" and chosen.tuning.in_backward == "on"


def test_the_small_form_fits_six_gigabytes_beside_the_host():
    host = 860_000_000 * 2 + 123_000_000 * 2 + 84_000_000 * 2
    smallest = memory_model.Form("bf16", "adafactor", True, True)
    assert smallest.need(FULL) + host + 0.5 * memory_model.GIB <= 6 * 10**9


def test_too_little_memory_is_refused_with_the_figures(bench):
    with pytest.raises(InputError, match=r"needs 2\.7 GiB free, and 1\.0 are") as refused:
        memory_model.choose(memory_model.Wish(), FULL, memory_model.Room(memory_model.GIB))
    assert "Lower data.resolution" in str(refused.value)
    with pytest.raises(InputError, match="small forms need bf16"):
        memory_model.choose(memory_model.Wish(bf16=False), FULL, memory_model.Room(6 * memory_model.GIB))
    with pytest.raises(InputError, match="would need"):
        memory_model.choose(memory_model.Wish(weights="fp32"), FULL, memory_model.Room(6 * memory_model.GIB))


def test_the_form_is_said_and_kept_with_the_run(bench):
    _, recorder, host = bench.run(WHOLE | RARE, folder="r")
    said = next(line for line in recorder.lines if "million weights are trained" in line)
    assert "fp32 weights, adamw" in said and "GiB of memory" in said
    kept = json.loads((host.paths.data / "runs" / "r" / "settings.json").read_text())
    assert kept["tuning"]["weights"] == "fp32" and kept["optimizer"]["name"] == "adamw"
    assert (host.paths.data / "runs" / "r" / CHECKPOINT).exists()


def test_too_little_memory_stops_before_anything_is_written(bench):
    host = bench.host()
    host.memory = lambda: MemoryUse(0, 0, 0, 1)
    with pytest.raises(InputError, match="GiB free, and"):
        bench.run(WHOLE | RARE, host=host)
    assert not list(host.paths.checkpoints.glob("*")) and not host.asked


def test_too_little_disk_is_said_before_the_start(bench, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10))
    with pytest.raises(InputError, match=r"GB are needed on the disk of .*the checkpoint .* 0\.0 are free"):
        bench.run(WHOLE | RARE)


# -- wrong input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"data.trigger": ""}, "data.trigger", "is empty"),
        ({"data.class_word": "", "objective.prior": "prediction"}, "data.class_word", "the class cannot be preserved"),
        ({"data.class_word": "", "data.class_count": "10"}, "data.class_word", "the class cannot be preserved"),
        ({"objective.prior": "pictures"}, "data.class_count", "no folder of class images"),
        ({"tuning.in_backward": "on", "training.accumulation": "2"}, "tuning.in_backward", "cannot be summed"),
        ({"tuning.weights": "bf16", "training.ema_decay": "0.9"}, "training.ema_decay", "would not move"),
        ({"tuning.in_backward": "on", "training.precision": "fp16"}, "tuning.in_backward", "loss scaling"),
        ({"tuning.weights": "bf16", "training.precision": "fp32"}, "tuning.weights", "computed in bf16"),
        ({"tuning.in_backward": "on", "optimizer.name": "prodigy"}, "optimizer.name", "all weights together"),
    ],
)
def test_wrong_input_is_refused_before_training(bench, changes, field, words):
    with pytest.raises(InputError, match=words) as refused:
        bench.run(WHOLE | RARE | changes)
    assert [problem.field for problem in refused.value.problems] == [field]


RTX_2070, GTX_1660, RTX_3060 = "NVIDIA GeForce RTX 2070", "NVIDIA GeForce GTX 1660 SUPER", "NVIDIA GeForce RTX 3060"
ALONE = {"tuning.in_backward": "on"}
HALVED = {"tuning.weights": "bf16"}


def on_card(monkeypatch, host, name):
    """The host computes on a card of this name, as far as torch tells."""
    power = (8, 6) if name == RTX_3060 else (7, 5)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _=None: name)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _=None: power)
    monkeypatch.setattr(type(host), "device", property(lambda _: torch.device("cuda")))
    return host


@pytest.mark.parametrize(
    ("name", "changes", "field"),
    [
        (RTX_2070, ALONE, "tuning.in_backward"),
        (RTX_2070, ALONE | {"tuning.weights": "fp32"}, "tuning.in_backward"),
        (RTX_2070, HALVED, "tuning.weights"),
        (RTX_2070, HALVED | ALONE, "tuning.weights"),
        (GTX_1660, HALVED, "tuning.weights"),
        (GTX_1660, ALONE, None),
        (RTX_3060, HALVED | ALONE, None),
        (RTX_2070, ALONE | {"training.precision": "fp32"}, None),
        (RTX_2070, HALVED | {"training.precision": "bf16"}, None),
        (RTX_2070, ALONE | {"training.precision": "bf16"}, None),
        (RTX_2070, {}, None),
        (RTX_2070, ALONE | {"method": "lora"}, None),
    ],
)
def test_weights_that_move_apart_are_refused_where_losses_are_scaled(bench, monkeypatch, name, changes, field):
    """Everywhere the same: at the check of a job, in a forecast, at the start; and the card of the method says it."""
    from lib_finetune.estimates import method_costs, trial
    from lib_finetune.jobs.queue import Jobs

    host = bench.host()
    facts = method_costs.model_facts(host)
    on_card(monkeypatch, host, name)
    given = settings(bench.images, WHOLE | RARE | {"objective.prior": "off"} | changes)
    machine = method_costs.Machine(host.device, name, 0, 0, 0, host.paths)
    card = method_costs.card(given, 3, facts, machine)
    if field is None:
        Jobs(host).check(given)
        assert card.fits
        return
    for start in (
        lambda: Jobs(host).check(given),
        lambda: trial.probe(given, host, lambda: None),
        lambda: bench.run(WHOLE | RARE | changes, host=host),
    ):
        with pytest.raises(InputError) as refused:
            start()
        (problem,) = refused.value.problems
        assert problem.field == field and "set tuning." in problem.message
    assert not card.fits and "set tuning." in card.message and dict(card.levers)
    assert not host.asked and not list(host.paths.data.rglob(STATE))


def test_a_run_that_comes_to_another_card_is_refused_before_its_next_step(bench, monkeypatch):
    """It began with bf16, whose gradients need no scaling."""
    changes = WHOLE | RARE | ALONE | {"tuning.weights": "fp32"}
    host = bench.host()
    bench.run(changes, host=host, recorder=Recorder(stop_at=1))[0].file.unlink()
    real = builder.precision.choose
    monkeypatch.setattr(builder.precision, "choose", lambda *how: scaling(real(*how)))
    recorder = Recorder()
    with pytest.raises(InputError, match=r"set tuning\.in_backward to auto"):
        bench.run(changes, host=host, recorder=recorder)
    assert not recorder.losses


def scaling(chosen):
    """A precision with a loss scaler, as on a card without bf16."""
    chosen._scaler = object()
    return chosen


@pytest.mark.parametrize("name", [RTX_2070, GTX_1660])
def test_a_card_without_fp16_is_reckoned_in_fp32(bench, monkeypatch, name):
    host = on_card(monkeypatch, bench.host(), name)
    chosen = settings(bench.images, WHOLE | RARE)
    assert memory_plan._sixteen_bit(chosen, host.device) == (name != GTX_1660)
    counts = {"unet": 859_520_964, "text": 123_060_480}
    work = memory_plan._work(chosen, counts, host.device)
    forms = memory_model.candidates(memory_plan._wish(chosen, host.device), work)
    assert forms and any(form.in_backward and not form.single for form in forms) == (name == GTX_1660)


@pytest.mark.parametrize("wish", [{"in_backward": True}, {"weights": "bf16"}, {"in_backward": True, "weights": "bf16"}])
def test_no_form_parts_what_is_scaled(wish):
    forms = memory_model.candidates(memory_model.Wish(bf16=False, single=True, **wish), FULL)
    assert all(form.single and form.weights == "fp32" for form in forms)
    none = memory_model.Wish(bf16=False, **wish)
    assert memory_model.candidates(none, FULL) == [] and not memory_model.least(none, FULL).in_backward
    with pytest.raises(InputError, match=r"set tuning\."):
        memory_model.choose(none, FULL, memory_model.Room(0))


def test_an_empty_class_folder_and_small_class_pictures_are_told(bench):
    empty = bench.root / "none"
    empty.mkdir()
    with pytest.raises(InputError, match="data.class_images"):
        bench.run(WHOLE | RARE | {"data.class_images": str(empty)})
    small = draw(bench.root / "small", 2, size=(48, 48))
    _, recorder, _ = bench.run(WHOLE | RARE | {"data.class_images": str(small)})
    assert any("2 of 2 class images are smaller" in line for line in recorder.lines)


@pytest.mark.parametrize(
    ("word", "said"),
    [("sks", None), ("dog", "knows well"), ("red dog", "made of words"), ("sks ohwx", None), ("myveryownpetname", "is split into")],
)
def test_the_identifier_is_looked_at(bench, word, said):
    tools = bench.host().text_tools()
    notes = memory_plan.identifier_notes(settings(bench.images, WHOLE | {"data.trigger": word}), tools.tokenizer)
    assert (said is None and not notes) or (said in notes[0] and "Better a rare one" in notes[0])


def test_the_proposed_identifiers_are_rare_single_tokens(bench):
    tools = bench.host().text_tools()
    for word in memory_plan._RARE:
        assert not memory_plan.identifier_notes(settings(bench.images, WHOLE | {"data.trigger": word}), tools.tokenizer)
        assert len(tools.tokenizer(word, add_special_tokens=False).input_ids) == 1


def test_ten_pictures_fit_in_twenty_minutes_at_two_steps_a_second():
    assert automatic_settings.automatic_steps(10, 1, 1, "dreambooth") / 2 <= 20 * 60


def test_an_old_card_does_not_get_bf16(monkeypatch):
    """It has none of its own; torch would emulate it."""
    from lib_finetune.training import precision

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _=None: (7, 5))
    assert not precision.computes_bf16(torch.device("cuda")) and precision.computes_bf16(torch.device("cpu"))
    assert precision._automatic(torch.float32, torch.device("cuda")) == torch.float16
