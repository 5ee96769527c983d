"""An optimizer of its own for each parameter: steps within the backward pass, and bf16 weights with stochastic rounding.

What full fine-tuning needs to fit on GPUs with little memory. A gradient lives only until its parameter has moved, so that the
gradients of the whole model are never held together. (LOMO, Lv et al., arXiv 2306.09782, does the same for SGD.)
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from lib_finetune.training.optim.adamw import step_alone
from lib_finetune.training.optim.optimizer import Groups


class PerParameter:
    """Looks like a torch optimizer to the loop: ``param_groups`` with "name" and "lr", `zero_grad`, `state_dict`."""

    def __init__(self, groups: Groups, build: Callable[[Groups], Optimizer], *, in_backward: bool, clip_norm: float) -> None:
        """
        Args:
            build: makes the optimizer of a group.
            in_backward: move each parameter as soon as its gradient is there; otherwise at `finish`.
            clip_norm: largest norm of each parameter's own gradient with ``in_backward``, over all of them without; 0 is off.
        """
        self.param_groups: list[dict[str, Any]] = [
            {"name": name, "params": list(parameters), "lr": 0.0} for name, parameters in groups.items() if parameters
        ]
        self._in_backward = in_backward
        self._clip_norm = clip_norm
        self._movers = [_Mover(parameter, group, build) for group in self.param_groups for parameter in group["params"]]
        self._squares: torch.Tensor | None = None
        if in_backward:
            # A hook lies where Python's collector of cycles does not see it: a strong reference from it would never be let go of.
            own = weakref.ref(self)
            for place, mover in enumerate(self._movers):
                mover.parameter.register_post_accumulate_grad_hook(lambda _, place=place: _moved_at_once(own, place))

    def _at_once(self, place: int) -> None:
        mover = self._movers[place]
        norm = torch.linalg.vector_norm(mover.gradient(), dtype=torch.float32)
        self._squares = norm.square() if self._squares is None else self._squares + norm.square()
        if self._clip_norm:
            mover.gradient().mul_((self._clip_norm / (norm + 1e-6)).clamp(max=1.0))
        mover.move()

    def finish(self) -> torch.Tensor:
        """End a step: move what has not moved yet. Returns the norm of the whole gradient before clipping, on the device."""
        if self._in_backward:
            squares, self._squares = self._squares, None
            return torch.zeros((), device=self._movers[0].parameter.device) if squares is None else squares.sqrt()
        norm = torch.nn.utils.clip_grad_norm_([mover.parameter for mover in self._movers], self._clip_norm or float("inf"))
        for mover in self._movers:
            if mover.parameter.grad is not None:
                mover.move()
        return norm.detach()

    @property
    def optimizers(self) -> list[Optimizer]:
        """The optimizers, one for each parameter."""
        return [mover.optimizer for mover in self._movers]

    @property
    def torn(self) -> bool:
        """Whether parameters have moved in a step that is not finished."""
        return self._squares is not None

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients that are left."""
        for mover in self._movers:
            mover.parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """The states in the order of the parameters."""
        return {"each": [mover.optimizer.state_dict() for mover in self._movers]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        for mover, own in zip(self._movers, state["each"], strict=True):
            mover.optimizer.load_state_dict(own)


def _moved_at_once(optimizer: weakref.ref[PerParameter], place: int) -> None:
    optimizer_of_all = optimizer()
    if optimizer_of_all is not None:
        optimizer_of_all._at_once(place)


class _Mover:
    """A parameter and the optimizer that moves it through a float32 stand-in, flattened to two dimensions and contiguous.

    Two, because factored optimizers save memory over rows and columns only, and a 3×3 convolution's last two are tiny.
    Contiguous, because kernels that take bare pointers (fused AdamW, bitsandbytes) pair weights, gradients and states by
    their place in memory, and ``--opt-channelslast`` puts weights into another order than a state that was read from a file.
    """

    def __init__(self, parameter: nn.Parameter, group: Mapping[str, Any], build: Callable[[Groups], Optimizer]) -> None:
        self.parameter = parameter
        if any(step == 0 and size > 1 for step, size in zip(parameter.stride(), parameter.shape, strict=True)):
            parameter.data = parameter.data.clone()  # overlapping values cannot move separately
        self._group = group
        self._stand_in = nn.Parameter(torch.empty(0, device=parameter.device))
        self.optimizer = build({group["name"]: [self._stand_in]})

    def gradient(self) -> torch.Tensor:
        gradient = self.parameter.grad
        assert gradient is not None
        return gradient

    @torch.no_grad()
    def move(self) -> None:
        """One step with the gradient, which is dropped."""
        parameter, stand_in = self.parameter, self._stand_in
        whole = parameter.dtype == torch.float32
        stand_in.data = _flat(parameter.detach() if whole else parameter.detach().float())
        stand_in.grad = _flat(self.gradient().float())
        for group in self.optimizer.param_groups:
            group["lr"] = self._group["lr"]
        step_alone(self.optimizer)
        moved = stand_in.detach() if whole else stochastically_rounded(stand_in.detach())
        if moved.data_ptr() != parameter.data_ptr():  # the stand-in is the weight itself only if the weight is contiguous
            parameter.copy_(moved.view(parameter.shape))
        stand_in.grad = parameter.grad = None
        stand_in.data = stand_in.data.new_empty(0)


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    """Two-dimensional and contiguous; the tensor's own memory where it lies so, else a copy."""
    return (tensor.flatten(1) if tensor.ndim > 2 else tensor).contiguous()


def stochastically_rounded(values: torch.Tensor) -> torch.Tensor:
    """float32 → bfloat16, up or down with chances that keep the mean, so that steps smaller than bf16's spacing are not lost.

    Sixteen random bits are added to the 16 bits that bf16 drops, and the carry decides. Random numbers come from torch's
    global state of the device. (Zamirai et al., Revisiting BFloat16 Training, arXiv 2010.06192, section 4.)
    """
    bits = values.contiguous().view(torch.int32)
    noise = torch.randint_like(bits, 1 << 16)
    return bits.add(noise).bitwise_and_(-65536).view(torch.float32).to(torch.bfloat16)
