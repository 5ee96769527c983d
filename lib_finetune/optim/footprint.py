"""What full fine-tuning takes of the memory, by form; and the form that fits. Computed, not measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lib_finetune.errors import InputError, Problem

GIB = 1 << 30
_STATES = {"adamw": 8.0, "adamw8bit": 2.0, "adafactor": 0.05, "lion": 4.0, "prodigy": 16.0}
"""Bytes of optimizer state a parameter; adafactor's factors of SD1.5's matrices together, rounded up."""
_ACTIVATIONS = {False: 0.86, True: 0.14}
"""GiB that the UNet saves for the backward pass, a 512 px picture in 16 bit, without and with gradient checkpointing."""
_WORK = 0.45
"""GiB of a 512 px picture's passing tensors and of the largest layer's gradient with its float32 stand-in."""
_SPARE = 0.95
CONTEXT = GIB // 2
"""Bytes that a CUDA context takes beside the allocator."""
_PIXELS = 512 * 512


def passing(pixels: int, sixteen_bit: bool, checkpointing: bool = False) -> int:
    """Bytes that a step holds besides weights, gradients and the optimizer's state.

    Args:
        pixels: of all pictures of the batch.
    """
    return int((_ACTIVATIONS[checkpointing] + _WORK) * GIB * pixels / _PIXELS * (1 if sixteen_bit else 2))


def beside(weights: int, optimizer: str, average: bool = False) -> int:
    """Bytes of float32 weights that are trained beside the model: themselves, gradients, the copy that was last good, optimizer, EMA.

    Args:
        weights: how many.
    """
    return int(weights * (12 + _STATES[optimizer] + 4 * average))


@dataclass(frozen=True)
class Form:
    """How the weights are held and moved.

    Attributes:
        weights: "fp32" or "bf16" (with stochastic rounding).
        optimizer: its name.
        in_backward: each weight moves as soon as its gradient is there.
        checkpointing: of gradients.
    """

    weights: str
    optimizer: str
    in_backward: bool
    checkpointing: bool

    def need(self, work: Work) -> int:
        """Bytes beside the host's own."""
        held = {"fp32": 4, "bf16": 2}[self.weights]
        gradients = 0 if self.in_backward else held
        cast = 2 if self.weights == "fp32" and work.sixteen_bit else 0  # autocast keeps a 16-bit copy of each weight for the step
        average = held if work.average else 0
        per_weight = held + gradients + cast + average + _STATES[self.optimizer]
        return int(work.weights * per_weight) + passing(work.pixels, work.sixteen_bit, self.checkpointing)

    @property
    def bytes_kept(self) -> int:
        """Bytes a weight in a saved state."""
        return int({"fp32": 4, "bf16": 2}[self.weights] + _STATES[self.optimizer] + 1)

    def __str__(self) -> str:
        parts = [f"{self.weights} weights", self.optimizer]
        parts += ["stepping in the backward pass"] * self.in_backward + ["gradient checkpointing"] * self.checkpointing
        return ", ".join(parts)


@dataclass(frozen=True)
class Work:
    """What is trained.

    Attributes:
        weights: how many.
        pixels: of all pictures of a batch, class pictures counted.
        sixteen_bit: whether it is computed in 16 bit.
        average: whether an EMA is kept.
    """

    weights: int
    pixels: int
    sixteen_bit: bool
    average: bool = False


@dataclass(frozen=True)
class Wish:
    """What the settings fix of the form; None leaves it open. Gradient checkpointing can be asked for, and is added where needed."""

    weights: str | None = None
    optimizer: str | None = None
    in_backward: bool | None = None
    checkpointing: bool = False
    bf16: bool = True
    """Whether the device computes bf16."""


_ORDER = (
    Form("fp32", "adamw", False, False),
    Form("fp32", "adamw", False, True),
    Form("fp32", "adamw", True, True),
    Form("bf16", "adamw", True, False),
    Form("bf16", "adamw", True, True),
    Form("bf16", "adafactor", True, False),
    Form("bf16", "adafactor", True, True),
)


def choose(wish: Wish, work: Work, free: int) -> Form:
    """The first form, from exact to small, that keeps to the wish and fits.

    Args:
        free: bytes that can be had; 0 where the system does not tell.

    Raises:
        InputError: none fits, with the figures and what to change.
    """
    forms = list(_candidates(wish))
    if not free:
        return forms[0]
    fitting = [form for form in forms if form.need(work) <= free * _SPARE]
    if fitting:
        return fitting[0]
    smallest = min(forms, key=lambda form: form.need(work))
    raise InputError([Problem("tuning.weights", _refusal(wish, smallest, work, free))])


def _candidates(wish: Wish) -> Iterator[Form]:
    found = []
    for form in _ORDER:
        if form.weights == "bf16" and not wish.bf16 and wish.weights is None:
            continue
        wished = Form(
            wish.weights or form.weights,
            wish.optimizer or form.optimizer,
            form.in_backward if wish.in_backward is None else wish.in_backward,
            form.checkpointing or wish.checkpointing,
        )
        if wished not in found:
            found.append(wished)
    yield from found


def _refusal(wish: Wish, smallest: Form, work: Work, free: int) -> str:
    said = f"{smallest} needs {smallest.need(work) / GIB:.1f} GiB, and {free / GIB:.1f} are free."
    if not wish.bf16 and wish.weights is None:
        said += " This card does not compute bf16, which the small forms need."
    least = Form("bf16", "adafactor", True, True)
    if smallest != least and wish.bf16:
        said += f" {least} would need {least.need(work) / GIB:.1f}: set tuning.weights, optimizer.name and tuning.in_backward to auto."
    return said + " Lower data.resolution or training.batch, close other programs that use the card, or train a LoRA."
