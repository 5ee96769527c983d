"""Precision of the computation: which dtype, with autocast or without, with loss scaling or without."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.optim import Optimizer

from lib_finetune.errors import InputError, Problem
from lib_finetune.training.optim.per_parameter import PerParameter

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Precision:
    """The precision of a step. Trained weights are float32, except DreamBooth's in bf16.

    Where the base already is of the compute dtype nothing is cast per step and autocast is off; a float32 base is
    computed under autocast.
    """

    def __init__(self, compute: torch.dtype, base: torch.dtype, device: torch.device) -> None:
        """
        Args:
            compute: dtype of the matrix products.
            base: dtype of the borrowed weights.
        """
        self.compute = compute
        self._device = device
        self._autocast = compute != base
        self._scaler: Any = _scaler() if compute == torch.float16 and device.type == "cuda" else None

    def context(self) -> AbstractContextManager[Any]:
        """Around forward passes."""
        return torch.autocast(self._device.type, self.compute) if self._autocast else nullcontext()

    @property
    def casts(self) -> bool:
        """Whether autocast makes copies of the weights in the type that it computes in."""
        return self._autocast

    @property
    def scales(self) -> bool:
        """Whether losses are scaled, so that now and then a step is skipped."""
        return self._scaler is not None

    def backward(self, loss: torch.Tensor) -> None:
        """Backward pass of a loss, scaled where fp16 needs it."""
        (self._scaler.scale(loss) if self._scaler else loss).backward()

    def step(self, optimizer: Optimizer | PerParameter, parameters: list[torch.nn.Parameter], clip_norm: float) -> torch.Tensor:
        """Unscale, clip, step. Returns the gradient's norm before clipping, on the device.

        Args:
            clip_norm: largest norm of the gradient over all parameters; 0 is off.
        """
        if isinstance(optimizer, PerParameter):
            return optimizer.finish()
        if self._scaler:
            self._scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(parameters, clip_norm or float("inf"))
        if self._scaler:
            self._scaler.step(optimizer)
            self._scaler.update()
        else:
            optimizer.step()
        return norm.detach()

    def forget_step(self) -> None:
        """Forget a step that failed half-way, because torch's scaler would not unscale the gradients of the next attempt."""
        if self._scaler:
            state, self._scaler = self._scaler.state_dict(), _scaler()
            self.load_state(state)

    def state(self) -> dict[str, Any]:
        """State of the loss scaler."""
        return dict(self._scaler.state_dict()) if self._scaler else {}

    def load_state(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        if self._scaler and state:
            self._scaler.load_state_dict(state)


def _scaler() -> Any:
    scaler = getattr(torch.amp, "GradScaler", None)  # torch 2.1 has it for CUDA only
    return scaler("cuda") if scaler else torch.cuda.amp.GradScaler()


def choose(setting: str, base: torch.dtype, device: torch.device) -> Precision:
    """The precision for a setting.

    Automatic: the base's own dtype if it has 16 bits; otherwise bf16 where the GPU has it, fp16 on other GPUs, and fp32 on the
    CPU and on GPUs whose fp16 fails.

    Raises:
        InputError: the base or the device does not allow this precision; the message says what to do.
    """
    if setting == "auto":
        return Precision(_automatic(base, device), base, device)
    compute = DTYPES[setting]
    problem = _refusal(setting, compute, base, device)
    if problem:
        raise InputError([Problem("training.precision", problem)])
    return Precision(compute, base, device)


def _automatic(base: torch.dtype, device: torch.device) -> torch.dtype:
    if base != torch.float32:
        return base
    if device.type != "cuda":
        return torch.float32
    if computes_bf16(device):
        return torch.bfloat16
    return torch.float32 if lacks_fp16(device) else torch.float16


def computes_bf16(device: torch.device) -> bool:
    """Whether the device has native bf16; `torch.cuda.is_bf16_supported` is also True for GPUs that emulate it, many times slower."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 0)


def lacks_fp16(device: torch.device) -> bool:
    """Whether fp16 gives numbers that are not finite, as on the GTX 16 series, where the WebUI computes in fp32, too."""
    if device.type != "cuda":
        return False
    try:
        return "GTX 16" in torch.cuda.get_device_name(device)
    except (AssertionError, RuntimeError):  # torch's error for a GPU that it cannot see
        return False


def scales(setting: str, device: torch.device) -> bool:
    """Whether float32 weights are computed in fp16 with scaled losses: their gradients must be unscaled all together."""
    return device.type == "cuda" and (DTYPES[setting] if setting != "auto" else _automatic(torch.float32, device)) == torch.float16


def _refusal(setting: str, compute: torch.dtype, base: torch.dtype, device: torch.device) -> str | None:
    if compute == torch.float16 and device.type == "cpu":
        return "fp16 is for CUDA cards; use fp32 or bf16 on the CPU."
    if base != torch.float32 and compute != base:
        held = next(name for name, dtype in DTYPES.items() if dtype == base)
        return f"the loaded model holds {held} weights, which train in {held}; choose auto, or start with --no-half for {setting}."
    return None


def scaled_apart(weights: str | None) -> Problem:
    """The problem of weights that move one by one while losses are scaled."""
    if weights == "bf16":
        message = "bf16 weights are computed in bf16, which this GPU does not have: set tuning.weights to auto or fp32."
        return Problem("tuning.weights", message)
    message = (
        "This GPU computes in fp16, and the loss scaling that fp16 needs looks at all gradients together: "
        "set tuning.in_backward to auto, or training.precision to fp32."
    )
    return Problem("tuning.in_backward", message)
