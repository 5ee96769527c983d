"""Memory of a training step by counting bytes, no card needed: ``python -m bench memory [--resolution 512] [--precision fp16]``.

The step runs on tensors without contents (torch's FakeTensorMode); every storage that an operation makes is counted from
its birth to its death, in blocks of 512 bytes as CUDA's allocator hands them out. What the allocator keeps beyond that
(`max_memory_reserved`) and the workspaces of cuBLAS and cuDNN are not in it: the figures are computed, not measured.
"""

from __future__ import annotations

import argparse
import weakref
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lib_finetune.assembly import automatic_settings, builder
from lib_finetune.config import codec
from lib_finetune.config.settings import Settings
from lib_finetune.estimates import memory_model
from lib_finetune.model import noise_schedule
from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.layout import Layout
from lib_finetune.model.random_weights import sd15_layout
from lib_finetune.text.learned import LearnedVectors
from lib_finetune.training.methods.denoising import Denoiser
from lib_finetune.training.optim.flat import Flat
from lib_finetune.training.optim.per_parameter import PerParameter

_BLOCK = 512
_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
CONTEXT_GIB = memory_model.CONTEXT / memory_model.GIB


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that are alive."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}

    def hold(self, tensor: torch.Tensor) -> None:
        """Count a tensor's storage, once."""
        storage = tensor.untyped_storage()
        key = id(storage)
        if key in self._sizes:
            return
        self._sizes[key] = -(-storage.nbytes() // _BLOCK) * _BLOCK
        self.now += self._sizes[key]
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.now -= self._sizes.pop(key)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it made."""
        made = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, torch.Tensor):
                self.hold(leaf)
        return made


def step(
    changes: Mapping[str, str], resolution_px: int, dtype: torch.dtype, layout: Layout | None = None, count: int = 2
) -> dict[str, float]:
    """GiB that steps of a method hold, the host's whole model included, without the CUDA context.

    Args:
        changes: settings by dotted path.
        dtype: of the host's weights.
        layout: SD1.5's when None.
        count: steps; the second has the optimizer's state.
    """
    pairs = {"name": "x", "data.images": "x", "data.resolution": str(resolution_px), "training.steps": "2", **changes}
    settings = automatic_settings.resolved(codec.with_values(Settings(), pairs.items()), 1, 1)[0]
    model: Any = BorrowedModel(layout or sd15_layout())
    model.bind({slot.source: torch.empty(slot.shape, dtype=dtype, device="meta") for slot in model.slots})
    adapter = builder.adapter_of(settings, model) if settings.method == "lora" else None
    held_as = _DTYPES.get(settings.tuning.weights, torch.float32)
    own = settings.method == "dreambooth"
    parts = ("unet", "text") if settings.tuning.text_encoder_until else ("unet",)
    cast = own and held_as == torch.float32 and settings.training.precision != "fp32"
    batch, side = settings.training.batch, resolution_px // 8
    with FakeTensorMode(allow_non_fake_inputs=True), LiveBytes() as live:
        for root in (model.unet, model.text, model.vae):
            _fake(root)
        builder._prepare_modes(settings, model)
        lent = {id(slot): slot.module._parameters[slot.leaf] for slot in model.slots}  # stays on the card beside the copies
        if own:
            weights = [value for part in model.own(parts, held_as, torch.device("cpu")).values() for value in part.values()]
            if settings.tuning.host_weights == "exchange":  # the host's model lies in main memory
                lent.clear()
                for module in model.vae.modules():
                    module._parameters.clear()
                live.peak = live.now  # which it was before the copies were made
            optimizer: Any = builder._optimizer(settings, {"unet": weights})
        elif adapter is None:
            vectors = torch.nn.Parameter(torch.empty(settings.embedding.vectors, model.unet.config.cross_attention_dim))
            LearnedVectors(model.text, lambda *_, **__: SimpleNamespace(input_ids=[0]), {"": vectors})
            optimizer = builder._optimizer(settings, {"text": [vectors]})
        else:
            adapter.train(True)
            groups = {part: list(adapter.parameters(part).values()) for part in ("unet", "text")}
            optimizer = builder._optimizer(settings, {part: group for part, group in groups.items() if group}, adapter, dtype)
        held = live.now
        denoiser = Denoiser(model.unet, noise_schedule.scaled_linear(), 0.18215, "epsilon", builder.objective(settings))
        latents = torch.empty(batch, 4, side, side)
        for _ in range(count):
            if isinstance(optimizer, Flat):
                optimizer.refresh()
            with torch.autocast("cpu", torch.bfloat16) if cast else nullcontext():
                if adapter is None or settings.network.text_encoder:
                    cond = model.text(torch.zeros(batch, 77, dtype=torch.long)).last_hidden_state
                else:
                    cond = torch.empty(batch, 77, model.unet.config.cross_attention_dim, dtype=dtype)
                loss = denoiser.losses(latents, latents, cond, torch.Generator()).mean()
            loss.backward()
            _advance(optimizer)
            del cond, loss
        del lent
        return {"weights and adapters": held / 2**30, "between steps": live.now / 2**30, "peak": live.peak / 2**30}


_WHOLE = {"method": "dreambooth", "tuning.weights": "bf16", "tuning.in_backward": "on"}
_SINGLE = {"tuning.weights": "fp32", "training.precision": "fp32"}
_EXCHANGED = {"tuning.host_weights": "exchange"}


def _advance(optimizer: Any) -> None:
    if isinstance(optimizer, PerParameter):
        optimizer.finish()
    elif isinstance(optimizer, Flat):
        optimizer.gather()
        optimizer.optimizer.step()
    else:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _fake(root: torch.nn.Module) -> None:
    """Replace a model's parameters and buffers by ones of the same form without contents."""
    for module in root.modules():
        for name, given in module._parameters.items():
            if given is not None:
                module._parameters[name] = torch.nn.Parameter(torch.empty(given.shape, dtype=given.dtype), given.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


def main(arguments: Sequence[str]) -> int:
    """Print a line per lever."""
    parser = argparse.ArgumentParser(
        prog="python -m bench memory", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--precision", choices=tuple(_DTYPES), default="fp16")
    parser.add_argument("--batch", type=int, default=1)
    options = parser.parse_args(arguments)
    print(f"{'computed, GiB':72}{'peak':>6}{'with context':>14}")
    methods = {
        "LoRA, UNet alone": {"network.text_encoder": "false"},
        "LoRA, UNet and text encoder": {"network.text_encoder": "true"},
        "Textual Inversion": {"method": "textual_inversion"},
        "DreamBooth, fp32, AdamW": {**_WHOLE, "tuning.weights": "fp32", "tuning.in_backward": "off", "optimizer.name": "adamw"},
        "DreamBooth, fp32, AdamW in the backward pass": {**_WHOLE, "tuning.weights": "fp32", "optimizer.name": "adamw"},
        "DreamBooth, bf16, AdamW in the backward pass": {**_WHOLE, "optimizer.name": "adamw"},
        "DreamBooth, bf16, Adafactor in the backward pass": {**_WHOLE, "optimizer.name": "adafactor"},
        "the same, UNet alone": {**_WHOLE, "optimizer.name": "adafactor", "tuning.text_encoder_until": "0"},
        "the same, UNet and text encoder, the WebUI's model in main memory": {**_WHOLE, "optimizer.name": "adafactor", **_EXCHANGED},
        "DreamBooth, all fp32, Adafactor in the backward pass": {**_WHOLE, "optimizer.name": "adafactor", **_SINGLE},
        "the same, the WebUI's model in main memory": {**_WHOLE, "optimizer.name": "adafactor", **_SINGLE, **_EXCHANGED},
    }
    for title, method in methods.items():
        for checkpointing in ("false", "true"):
            changes = {**method, "training.gradient_checkpointing": checkpointing, "training.batch": str(options.batch)}
            peak = step(changes, options.resolution, _DTYPES[options.precision])["peak"]
            what = title + (", gradient checkpointing" if checkpointing == "true" else "")
            print(f"{what:72}{peak:6.2f}{peak + CONTEXT_GIB:14.2f}")
    return 0
