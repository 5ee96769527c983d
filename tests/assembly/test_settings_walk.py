"""No placebo: every setting of the tree has an entry here that proves what it changes; a setting without one fails."""

import dataclasses

import pytest
import torch
from PIL import Image

from lib_finetune.assembly import automatic_settings, builder, dataset
from lib_finetune.assembly.rate_plan import RatePlan
from lib_finetune.config import codec
from lib_finetune.config.fields import replaced
from lib_finetune.export import embedding_file, lora_file
from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.noise_schedule import scaled_linear
from lib_finetune.model.random_weights import small_layout
from lib_finetune.text.prompts import TextEncoder
from lib_finetune.training.methods.denoising import Denoiser
from tests.fakes.host import FakeHost, tiny_tensors
from tests.fakes.pictures import draw
from tests.fakes.runs import Bench, metadata, settings, tensors

CAPTION = "one, two, three, four, five, six"


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("walk"), pictures=0)
    draw(bench.images, 2, size=(128, 64))
    draw(bench.images / "more", 2, size=(64, 64), seed=3)
    (bench.images / "0.txt").write_text(CAPTION, encoding="utf-8")
    draw(bench.root / "masked", 1, size=(64, 64))
    half = Image.new("L", (64, 64))
    half.paste(255, (0, 0, 32, 64))
    half.save(bench.root / "masked" / "0_mask.png")
    draw(bench.root / "classes", 2, seed=9)
    patches = {name: value + 0.5 * (not name.endswith("alpha")) for name, value in _adapter(of(bench)).state().items()}
    lora_file.write(bench.root / "before.safetensors", patches, {}, "fp16")
    return bench


@pytest.fixture(scope="module")
def before():
    """What probes found without the change: many settings start from the same."""
    return {}


def of(bench, *pairs):
    """Resolved settings with changes."""
    found = settings(bench.images, dict(pairs))
    return automatic_settings.resolved(found, 4, clip_skip=1)[0]


def items(bench, chosen):
    """What the first sixteen micro steps show."""
    plan = builder.data_plan(chosen, dataset.find(chosen))
    return [plan.items(step) for step in range(16)]


def _adapter(chosen):
    model = BorrowedModel(small_layout())
    model.bind(tiny_tensors())
    return builder.adapter_of(chosen, model)


def shapes(_bench, chosen):
    """Names and shapes in the file."""
    return {name: tuple(value.shape) for name, value in _adapter(chosen).state().items()}


def alphas(_bench, chosen):
    """Alphas in the file."""
    return {name: value.item() for name, value in _adapter(chosen).state().items() if name.endswith("alpha")}


def beginnings(_bench, chosen):
    """What the patches hold before the first step."""
    return {name: value.tolist() for name, value in _adapter(chosen).state().items()}


def rates(_bench, chosen):
    """Learning rates of every step."""
    return [RatePlan(chosen).at(step) for step in range(chosen.training.steps)]


def further_rates(_bench, chosen):
    """Learning rates of further steps."""
    stretch = RatePlan(chosen).further(2, chosen.optimizer.further)
    return [RatePlan(chosen, stretch).at(step) for step in range(2, chosen.training.steps)]


class _Guess(torch.nn.Module):
    """Stands for a UNet: predicts its own input."""

    def __init__(self):
        super().__init__()
        self.conv_in = torch.nn.Conv2d(1, 1, 1)
        self.conv_norm_out = torch.nn.GroupNorm(1, 1)

    def forward(self, noisy, _timesteps, _cond):
        return type("Output", (), {"sample": noisy})


def losses(_bench, chosen):
    """Losses of a batch."""
    denoiser = Denoiser(_Guess(), scaled_linear(), 0.18215, "epsilon", builder.objective(chosen))
    mean = torch.ones(8, 4, 8, 8)
    return denoiser.losses(mean, mean, torch.zeros(8, 1, 1), torch.Generator().manual_seed(0)).tolist()


def conditioning(bench, chosen):
    """What the text encoder makes of a long caption."""
    model = BorrowedModel(small_layout())
    model.bind(tiny_tensors())
    tools = bench.host().text_tools()
    text = TextEncoder(model.text, tools.tokenizer, chosen.training.clip_skip, chosen.data.max_tokens)
    with torch.no_grad():
        return text.encode([", ".join([CAPTION] * 12)]).tolist()


def trained(bench, chosen):
    """Tensors of the file after a run."""
    host, recorder = _run(bench, chosen)
    return {name: value.tolist() for name, value in tensors(host.paths.lora / f"{chosen.name}.safetensors").items()}, len(recorder.losses)


def written(bench, chosen):
    """Names and precisions of the files, the prompts of images, and what the card says."""
    host, _ = _run(bench, chosen)
    files = sorted(path.name for path in host.paths.lora.iterdir())
    kinds = {str(value.dtype) for value in tensors(host.paths.lora / f"{chosen.name}.safetensors").values()}
    card = (host.paths.lora / f"{chosen.name}.json").read_text()
    requests = [dataclasses.replace(request, loras=tuple(weight for _, weight in request.loras)) for request in host.asked]
    return files, kinds, card, requests


def products(bench, chosen):
    """Which files a run makes, and what an embedding holds."""
    host, _ = _run(bench, chosen)
    files = [path for folder in (host.paths.lora, host.paths.embeddings) if folder.is_dir() for path in folder.iterdir()]
    made = sorted(path for path in files if path.suffix in (".safetensors", ".pt"))
    values = embedding_file.read(made[0]).tolist() if chosen.method == "textual_inversion" else None
    return [path.relative_to(host.paths.lora.parent.parent) for path in made], values


def whole(bench, chosen):
    """Which files DreamBooth makes, what they hold in one place of each part, and which checkpoint is loaded afterwards."""
    host, _ = _run(bench, chosen)
    files = sorted((*host.paths.checkpoints.iterdir(), *(host.paths.lora.iterdir() if host.paths.lora.is_dir() else ())))
    made = next((tensors(path) for path in files if path.suffix == ".safetensors"), {})
    ends = ("middle_block.0.in_layers.2.weight", "text_model.final_layer_norm.weight")
    return [path.name for path in files], [value.tolist() for name, value in made.items() if name.endswith(ends)], host.checkpoint().name


def placed(bench, chosen):
    """Whether the host's model and the trained one were swapped."""
    _, recorder = _run(bench, chosen)
    return any("were swapped" in line or "Swapped the" in line for line in recorder.lines)


def cached(bench, chosen):
    """Whether encoded images lie on disk."""
    host, _ = _run(bench, chosen)
    return any((host.paths.data / "cache" / "latents").rglob("*.safetensors"))


def checkpointed(bench, chosen):
    """Which modules checkpoint, and that the file is the same all the same."""
    from diffusers.models.unets.unet_2d_blocks import CrossAttnDownBlock2D

    seen = []
    real = CrossAttnDownBlock2D.forward

    def forward(self, *args, **kwargs):
        seen.append(self.training and self.gradient_checkpointing)
        return real(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(CrossAttnDownBlock2D, "forward", forward)
        _run(bench, chosen)
    return any(seen)


def states(bench, chosen):
    """When states were saved."""
    from lib_finetune.training import state

    saved = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(state, "save", lambda _, value: saved.append(value["trainer"]["step"]))
        _run(bench, chosen)
    return saved


def left(bench, chosen):
    """States that lie in the run's folder when it is done."""
    host, _ = _run(bench, chosen)
    return sorted(path.name for path in (host.paths.data / "runs").glob("*/*.safetensors"))


def measured(bench, chosen):
    """When the loss on the validation images was measured."""
    _, recorder = _run(bench, chosen)
    return [line.partition(":")[0] for line in recorder.lines if "validation images, step" in line]


def previewed(bench, chosen):
    """Seeds and prompts of each preview."""
    return [(row.step, row.seeds, row.prompts) for row in _run(bench, chosen)[1].rows]


def overwriting(bench, chosen):
    """Whether a taken name is refused."""
    from lib_finetune.errors import InputError

    host, _ = _run(bench, replaced(chosen, "saving.overwrite", True))
    try:
        _run(bench, chosen, host)
    except InputError:
        return "refused"
    return "replaced"


_COUNT = iter(range(1000))


def _run(bench, chosen, host: FakeHost | None = None):
    from lib_finetune.runs.runner import Runner
    from tests.fakes.host import Recorder

    host = host or bench.host(f"walk{next(_COUNT)}")
    recorder = Recorder()
    Runner(chosen, host, host.paths.data / "runs" / f"r{next(_COUNT)}", recorder, recorder).execute()
    return host, recorder


FAST = (("training.steps", "2"), ("network.text_encoder", "false"))
TEACHING = (("method", "textual_inversion"), ("name", "zxqcat"), ("training.steps", "2"), ("optimizer.warmup", "0"))
WHOLE = (
    ("method", "dreambooth"),
    ("data.trigger", "sks"),
    ("training.steps", "2"),
    ("optimizer.warmup", "0"),
    ("optimizer.unet_rate", "1e-3"),
)
PIVOT = (("method", "pivotal_tuning"), ("name", "zxqcat"), *FAST)
SHUFFLED = ("data.shuffle_tags", "true")
WALK = {
    "method": (products, "textual_inversion", ("name", "zxqcat"), *FAST),
    "name": (written, "dog", *FAST),
    "data.images": (items, None),
    "data.kind": (items, "style"),
    "data.drawn": (items, "true", ("data.kind", "person")),
    "data.trigger": (items, "abc"),
    "data.class_word": (items, "dog"),
    "data.template": (items, "{trigger}"),
    "data.shuffle_tags": (items, "true"),
    "data.keep_tags": (items, "4", SHUFFLED),
    "data.tag_dropout": (items, "0.5"),
    "data.caption_dropout": (items, "0.9"),
    "data.resolution": (items, "128"),
    "data.buckets": (items, "false", ("data.resolution", "128")),
    "data.crop": (items, "random", ("data.buckets", "false")),
    "data.flip": (items, "true"),
    "data.masks": (trained, "off", ("data.images", "masked"), *FAST),
    "data.max_tokens": (conditioning, "75"),
    "data.class_images": (items, "classes"),
    "data.class_count": (written, "2", *FAST),
    "data.held_out": (items, "1"),
    "data.disk_cache": (cached, "false", *FAST),
    "network.adapter": (shapes, "loha"),
    "network.rank": (shapes, "4"),
    "network.alpha": (alphas, "2"),
    "network.conv_rank": (shapes, "2"),
    "network.conv_alpha": (alphas, "2", ("network.conv_rank", "2")),
    "network.dropout": (trained, "0.5", *FAST),
    "network.factor": (shapes, "4", ("network.adapter", "lokr")),
    "network.targets": (shapes, "all"),
    "network.text_encoder": (shapes, "false"),
    "network.start": (beginnings, "before.safetensors"),
    "tuning.weights": (whole, "bf16", *WHOLE),
    "tuning.in_backward": (whole, "on", *WHOLE),
    "tuning.host_weights": (placed, "exchange", *WHOLE),
    "tuning.text_encoder_until": (whole, "0", *WHOLE),
    "tuning.format": (whole, "ckpt", *WHOLE),
    "tuning.lora_rank": (whole, "2", *WHOLE),
    "tuning.select": (whole, "true", *WHOLE),
    "network.begin": (rates, "0.5", ("method", "pivotal_tuning")),
    "embedding.until": (rates, "1", ("method", "pivotal_tuning")),
    "embedding.bundle": (products, "false", *PIVOT),
    "embedding.vectors": (products, "2", *TEACHING),
    "embedding.init": (products, "red car", *TEACHING),
    "embedding.template": (items, "style", *TEACHING),
    "embedding.rate": (products, "0.1", *TEACHING),
    "embedding.keep_norm": (products, "true", ("embedding.rate", "0.1"), *TEACHING),
    "embedding.format": (products, "pt", *TEACHING),
    "optimizer.name": (trained, "lion", *FAST),
    "optimizer.unet_rate": (rates, "0.01"),
    "optimizer.text_encoder_rate": (rates, "0.01"),
    "optimizer.weight_decay": (trained, "1", ("optimizer.unet_rate", "0.1"), *FAST),
    "optimizer.schedule": (rates, "linear"),
    "optimizer.warmup": (rates, "0.5"),
    "optimizer.restarts": (rates, "1", ("optimizer.schedule", "cosine_with_restarts")),
    "optimizer.power": (rates, "1", ("optimizer.schedule", "polynomial")),
    "optimizer.further": (further_rates, "end"),
    "optimizer.clip_norm": (trained, "0.000001", ("optimizer.name", "adafactor"), ("training.steps", "2"), ("network.text_encoder", "false")),
    "objective.loss": (losses, "huber"),
    "objective.huber_c": (losses, "1", ("objective.loss", "huber")),
    "objective.min_snr_gamma": (losses, "0"),
    "objective.noise_offset": (losses, "0.5"),
    "objective.unmasked_weight": (trained, "1", ("data.images", "masked"), *FAST),
    "objective.timestep_min": (losses, "900"),
    "objective.timestep_max": (losses, "100"),
    "objective.prior": (trained, "prediction", *FAST),
    "objective.prior_weight": (trained, "9", ("data.class_images", "classes"), *FAST),
    "training.steps": (trained, "3", ("network.text_encoder", "false")),
    "training.batch": (items, "2"),
    "training.accumulation": (trained, "2", *FAST),
    "training.seed": (items, "7"),
    "training.precision": (trained, "bf16", *FAST),
    "training.gradient_checkpointing": (checkpointed, "true", *FAST),
    "training.ema_decay": (trained, "0.9", *FAST),
    "training.validate_every": (measured, "1", ("data.held_out", "1"), *FAST),
    "training.clip_skip": (conditioning, "2"),
    "saving.every_steps": (written, "1", *FAST),
    "saving.every_epochs": (written, "1", ("training.steps", "6"), ("network.text_encoder", "false")),
    "saving.keep": (written, "1", ("saving.every_steps", "1"), ("training.steps", "4"), ("network.text_encoder", "false")),
    "saving.precision": (written, "bf16", *FAST),
    "saving.overwrite": (overwriting, "true", *FAST),
    "saving.state_every": (states, "1", *FAST),
    "saving.states": (left, "none", *FAST),
    "preview.enabled": (written, "true", *FAST),
    "preview.every": (written, "0", ("preview.enabled", "true"), *FAST),
    "preview.prompts": (written, "a dog; a {class}", ("preview.enabled", "true"), *FAST),
    "preview.count": (previewed, "2", ("preview.enabled", "true"), *FAST),
    "preview.seed": (previewed, "7", ("preview.enabled", "true"), *FAST),
    "preview.watch": (previewed, "on", ("preview.enabled", "true"), *FAST),
    "preview.weight": (written, "0.5", ("preview.enabled", "true"), *FAST),
    "preview.steps": (written, "3", ("preview.enabled", "true"), *FAST),
}  # fmt: skip


def test_every_setting_has_its_proof():
    assert set(WALK) == set(codec.all_leaves())


@pytest.mark.parametrize("path", [path for path, entry in WALK.items() if entry])
def test_a_setting_changes_what_it_says(bench, before, path):
    probe, value, *context = WALK[path]
    folders = {name: str(bench.root / name) for name in ("classes", "before.safetensors", "masked")} | {None: str(bench.images / "more")}
    context = [(name, folders.get(given, given)) for name, given in context]
    chosen = of(bench, *context)
    if (probe, chosen) not in before:
        before[probe, chosen] = probe(bench, chosen)
    assert before[probe, chosen] != probe(bench, of(bench, *context, (path, folders.get(value, value))))


def test_the_metadata_tell_the_settings(bench):
    host, _ = _run(bench, of(bench, *FAST))
    found = metadata(host.paths.lora / "cat.safetensors")
    assert found["ss_network_dim"] == "2" and found["ss_steps"] == "2" and found["ss_output_name"] == "cat"
    assert str(bench.root) not in str(found)
