"""What is tried on a device, a function each: it returns what was measured, and raises where it does not hold or cannot be tried."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from bench.gpu.ground import METHODS, Ground
from bench.gpu.report import NotHereError
from lib_finetune.errors import OutOfMemoryError
from lib_finetune.model.digest import digest
from lib_finetune.training.adapters.targets import unet_targets
from lib_finetune.training.optim.flat import Flat

FORMS: dict[str, dict[str, str]] = {
    "fp32 weights, a step at the end": {"tuning.weights": "fp32", "tuning.in_backward": "off"},
    "bf16 weights, a step at the end": {"tuning.weights": "bf16", "tuning.in_backward": "off"},
    "bf16 weights, a step in the backward pass": {"tuning.weights": "bf16", "tuning.in_backward": "on"},
    "the smallest": {
        "tuning.weights": "bf16",
        "tuning.in_backward": "on",
        "optimizer.name": "adafactor",
        "training.gradient_checkpointing": "true",
    },
}
"""Forms of DreamBooth → their settings. The rate is high, so that bf16 does not round a step away."""
GRADIENT, ENCODER, MEMORY = 1e-3, 2e-2, 1.10
"""What may differ: fp32 gradients from the CPU's, relatively; fp16 latents from fp32 ones, relatively; the peak, as a share of the computed one."""
_STICKY = """
import torch
torch.zeros(4, device="cuda")[torch.tensor([9], device="cuda")].sum()
try:
    torch.cuda.synchronize()
except Exception as error:
    from lib_finetune.errors import device_loss
    print(device_loss(error) or f"not known as a lost device: {error!r}")
"""


def device_answers(ground: Ground) -> str:
    """A product of matrices is the CPU's."""
    left, right = (torch.randn(256, 256, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    here = (left.to(ground.device) @ right.to(ground.device)).cpu()
    off = float((here - left @ right).norm() / (left @ right).norm())
    assert off < 1e-2, f"relative difference {off:.1e}"
    return f"relative difference of a product {off:.1e}"


def losses_are_numbers(ground: Ground, method: str) -> str:
    """A whole training: every loss is a number, the file is there, the host is as it was."""
    if ground.on_cuda:
        torch.cuda.reset_peak_memory_stats(ground.device)
    watch, file = ground.train(method, ground.steps)
    pace = sorted(watch.seconds)[len(watch.seconds) // 2]
    peak = f", peak {torch.cuda.max_memory_allocated(ground.device) / 2**30:.2f} GiB" if ground.on_cuda else ""
    return f"loss {watch.losses[0]:.3f} to {watch.losses[-1]:.3f}, {1 / pace:.2f} it/s{peak}, {file.stat().st_size / 1e6:.1f} MB"


def steps_wait_for_nothing(ground: Ground) -> str:
    """Steps of a LoRA make Python wait for no number of the device."""
    ground.cuda_only()
    with ground.bound("lora") as trainer:
        for _ in range(3):
            ground.step(trainer)
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                for _ in range(5):
                    ground.step(trainer)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    places = {f"{Path(each.filename).name}:{each.lineno}" for each in caught if "synchroniz" in str(each.message)}
    assert not places, f"waits at {', '.join(sorted(places))}"
    return "0 waits in 5 steps"


def kernels(ground: Ground) -> str:
    """How many kernels a step of a LoRA starts, and for which share of its time the device works."""
    ground.cuda_only()
    from torch.profiler import ProfilerActivity, profile

    with ground.bound("lora") as trainer:
        for _ in range(3):
            ground.step(trainer)
        ground.wait()
        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            wall = ground.seconds(lambda: ground.step(trainer), 3)
    events = [event for event in profiler.events() if str(event.device_type).endswith("CUDA")]
    busy = (
        covered((event.time_range.start, event.time_range.end) for event in events) / 1e6 / 5
    )  # with the two steps that `seconds` takes first
    return f"{len(events) // 5} kernels a step, the device busy for {100 * busy / wall:.0f} % of it"


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """How much time spans of (start, end) cover, what they have in common counted once."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def peak_is_the_computed_one(ground: Ground) -> str:
    """The peak of a step of a LoRA with checkpointing, beside the one that is computed by counting bytes."""
    ground.cuda_only()
    from bench import memory

    changes = {"training.gradient_checkpointing": "true", "network.rank": "16"}
    computed = memory.step({**changes, "method": "lora"}, ground.resolution_px, torch.float16, ground.layout)["peak"]
    with ground.bound("lora", changes) as trainer:
        ground.step(trainer)
        torch.cuda.reset_peak_memory_stats(ground.device)
        ground.step(trainer)
        measured = torch.cuda.max_memory_allocated(ground.device) / 2**30
    assert measured < MEMORY * computed, f"{measured:.2f} GiB, and {computed:.2f} were computed"
    return f"{measured:.2f} GiB, computed {computed:.2f}"


def gradients_are_the_cpus(ground: Ground) -> str:
    """Gradients of a LoRA in fp32, the same step on the device and on the CPU, at weights that are nowhere zero."""
    values = []
    with _without_tf32():
        for device in (ground.device, torch.device("cpu")):
            with ground.bound("lora", {"training.precision": "fp32"}, ground.host(device, torch.float32)) as trainer:
                batch = trainer.batches(0)
                groups, noise = trainer.optimizer.param_groups, torch.Generator().manual_seed(3)
                for weight in (
                    weight for group in groups for weight in group["params"]
                ):  # half of a LoRA's begin at zero, and hide the others
                    weight.data.copy_(0.02 * torch.randn(weight.shape, generator=noise))
                with trainer.turns.step():
                    trainer.loss(batch, torch.Generator().manual_seed(5)).backward()
                    if isinstance(trainer.optimizer, Flat):
                        trainer.optimizer.gather()
                    values.append(torch.cat([p.grad.flatten().cpu() for group in groups for p in group["params"] if p.grad is not None]))
    zeros = float((values[0] == 0).float().mean())
    assert zeros < 0.1, f"{100 * zeros:.0f} % of the gradient are zero"
    off = float((values[0] - values[1]).norm() / values[1].norm())
    assert off < GRADIENT, f"relative difference {off:.1e} over {len(values[0])} values"
    return f"relative difference {off:.1e} over {len(values[0])} values, {100 * zeros:.1f} % of them zero"


@contextmanager
def _without_tf32() -> Iterator[None]:
    """Products and convolutions of float32 in all its bits, which cuDNN does not do by itself."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def encoder_in_16_bits(ground: Ground) -> str:
    """Latents of the fp16 image encoder beside those of fp32."""
    ground.cuda_only()
    means = []
    for dtype in (torch.float16, torch.float32):
        with ground.bound("lora", None, ground.host(dtype=dtype)) as trainer:
            means.append(trainer.batches(0).mean.float().cpu())
    off = float((means[0] - means[1]).norm() / means[1].norm())
    assert off < ENCODER, f"relative difference {off:.1e}"
    return f"relative difference {off:.1e}"


def every_weight_moves(ground: Ground, form: str) -> str:
    """Two steps of a form of DreamBooth change every weight matrix of the UNet."""
    _, file = ground.train("dreambooth", 2, {"optimizer.unet_rate": "1e-2", "tuning.text_encoder_until": "0", **FORMS[form]})
    before, after = load_file(ground.root / "base.safetensors"), load_file(file)
    names = [name for name in before if name.startswith("model.diffusion_model.") and before[name].ndim > 1]
    still = [name for name in names if torch.equal(before[name].float(), after[name].float())]
    assert not still, f"{len(still)} of {len(names)} did not move, first {still[0]}"
    return f"{len(names)} of {len(names)} matrices moved"


def models_are_exchanged(ground: Ground) -> str:
    """Three exchanges of the host's model and the trained one; the host's tensors are the same bits afterwards."""
    host = ground.host()
    before, swaps = digest(host.held.tensors), []
    changes = {"tuning.host_weights": "exchange", **FORMS["bf16 weights, a step at the end"]}
    with ground.bound("dreambooth", changes, host, on_swapped=lambda *figures: swaps.append(figures)) as trainer:
        for _ in range(3):
            ground.step(trainer)
            trainer.turns.close()
    after = digest(host.held.tensors)
    changed = [name for name in before if after[name] != before[name]]
    assert not changed, f"{len(changed)} of {len(before)} tensors differ, first {changed[0]}"
    assert len(swaps) >= 3, f"only {len(swaps)} exchanges"
    return f"{len(swaps)} exchanges, {len(before)} tensors equal bit for bit"


def memory_that_runs_out(ground: Ground) -> str:
    """A training that does not fit into 30 % of the card ends with our error, and the next one is done."""
    ground.cuda_only()
    host = ground.host()
    before = digest(host.held.tensors)
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info(ground.device)[1]
    torch.cuda.set_per_process_memory_fraction(0.3, ground.device)
    try:
        ballast = torch.empty(
            max(0, int(0.3 * total) - torch.cuda.memory_reserved(ground.device) - 2**29), dtype=torch.uint8, device=ground.device
        )
        try:
            ground.train("lora", 2, {"training.batch": "4"}, host)
            raise AssertionError("it fitted, though half a GiB was left")
        except OutOfMemoryError as error:
            message = str(error)
        del ballast
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, ground.device)
    assert digest(host.held.tensors) == before, "the host's weights are not those of before"
    ground.train("lora", 2, None, host)
    return f"the next training is done after: {message[:90]}"


def error_that_stays(ground: Ground) -> str:
    """After an error that takes the device from a process, it is known as such; tried in a process of its own."""
    ground.cuda_only()
    done = subprocess.run([sys.executable, "-c", _STICKY], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    line = (done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]])[-1]
    assert line, "it printed nothing"
    assert not line.startswith("not known"), line
    return line[:120]


def equal_runs(ground: Ground) -> str:
    """How far two equal trainings of a LoRA are from one another."""
    files = []
    for _ in range(2):
        _, file = ground.train("lora", 5)
        files.append(load_file(file))
    off = max(float((files[0][name].float() - files[1][name].float()).abs().max()) for name in files[0])
    size = max(float(tensor.float().abs().max()) for tensor in files[0].values())
    assert ground.on_cuda or off == 0.0, f"on the CPU they are the same bits, and differ by {off:.1e}"
    return f"largest difference {off:.1e} beside values up to {size:.1e}"


def speed_beside_a_bare_loop(ground: Ground, batch: int) -> str:
    """Iterations a second of a LoRA of rank 16, and those of a bare loop of diffusers and peft with the same adapters' places."""
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise NotHereError(f"needs peft: {error}") from error
    times = 10 if ground.full and ground.on_cuda else 3
    changes = {"training.batch": str(batch), "network.text_encoder": "false"}
    with ground.bound("lora", changes) as trainer:
        ours, numbers = ground.seconds(lambda: ground.step(trainer), times), sum(p.numel() for p in trainer.parameters())
    step, bare_numbers = _bare_loop(ground, changes)
    assert numbers == bare_numbers, f"the bare loop trains {bare_numbers} numbers, and we {numbers}"
    bare = ground.seconds(step, times)
    return f"{1 / ours:.2f} it/s, the bare loop {1 / bare:.2f}: {bare / ours:.2f} times as fast"


def _bare_loop(ground: Ground, changes: Mapping[str, str]) -> tuple[Callable[[], None], int]:
    """One step of the smallest loop, and how many numbers it trains: the UNet by diffusers, LoRA by peft at the modules that ours has, clipping,
    AdamW over all adapter weights; no data, no text encoder. On CUDA in bf16 as a whole, where it needs no scaler."""
    from diffusers import UNet2DConditionModel
    from peft import LoraConfig, inject_adapter_in_model

    dtype, batch = torch.bfloat16 if ground.on_cuda else torch.float32, int(changes["training.batch"])
    unet: Any = UNet2DConditionModel(**ground.layout.unet).to(ground.device, dtype).requires_grad_(False)
    network = ground.settings("lora", 1, changes).network
    modules = [
        target.module for target in unet_targets(unet, network.targets, network.rank, network.alpha, network.conv_rank, network.conv_alpha)
    ]
    unet = inject_adapter_in_model(LoraConfig(r=network.rank, lora_alpha=network.rank, target_modules=modules), unet)
    parameters = [p for p in unet.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.data = parameter.data.float()
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    side = ground.resolution_px // 8
    noisy = torch.randn(batch, 4, side, side, device=ground.device, dtype=dtype)
    cond = torch.randn(batch, 77, ground.layout.unet["cross_attention_dim"], device=ground.device, dtype=dtype)
    timesteps = torch.full((batch,), 500, device=ground.device)

    def step() -> None:
        with torch.autocast(ground.device.type, torch.bfloat16, enabled=ground.on_cuda):
            loss = (unet(noisy, timesteps, cond).sample.float() - 0.5).square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step, sum(p.numel() for p in parameters)


def all_checks(ground: Ground) -> dict[str, Callable[[], str]]:
    """Name of a row → the check."""
    checks: dict[str, Callable[[], str]] = {"the device computes": lambda: device_answers(ground)}
    for method in METHODS:
        checks[f"{ground.steps} steps of {method}"] = lambda method=method: losses_are_numbers(ground, method)  # type: ignore[misc]
    checks |= {
        "no wait inside a step": lambda: steps_wait_for_nothing(ground),
        "kernels of a step": lambda: kernels(ground),
        "peak of a LoRA with checkpointing": lambda: peak_is_the_computed_one(ground),
        "fp32 gradients": lambda: gradients_are_the_cpus(ground),
        "fp16 image encoder": lambda: encoder_in_16_bits(ground),
    }
    for form in FORMS:
        checks[f"DreamBooth, {form}"] = lambda form=form: every_weight_moves(ground, form)  # type: ignore[misc]
    checks |= {
        "models exchanged": lambda: models_are_exchanged(ground),
        "out of memory at 30 %": lambda: memory_that_runs_out(ground),
        "an error that stays": lambda: error_that_stays(ground),
        "two equal runs": lambda: equal_runs(ground),
    }
    for batch in (1, 16):
        checks[f"speed at batch {batch}"] = lambda batch=batch: speed_beside_a_bare_loop(ground, batch)  # type: ignore[misc]
    return checks
