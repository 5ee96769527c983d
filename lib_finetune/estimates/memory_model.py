"""What full fine-tuning takes of the memory, by form; and the form that fits. Computed, not measured."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from lib_finetune.errors import InputError, Problem
from lib_finetune.training import precision

GIB = 1 << 30
_STATES = {"adamw": 8.0, "adamw8bit": 2.0, "adafactor": 0.05, "lion": 4.0, "prodigy": 16.0}
"""Bytes of optimizer state a parameter; adafactor's factors of SD1.5's matrices together, rounded up."""
_UNFLATTENED = 1.9
"""Adafactor's where convolutions keep their four dimensions, of which it factors the last two: those of SD1.5, counted."""
_ACTIVATIONS = {False: 0.86, True: 0.14}
"""GiB that the UNet saves for the backward pass, a 512 px image in 16 bit, without and with gradient checkpointing."""
_WORK = 0.45
"""GiB of a 512 px image's passing tensors."""
_SAVED = {False: 0.89, True: 0.23}
"""GiB a 512 px image takes in all when the whole model is trained, without and with gradient checkpointing."""
_LAYER = 0.36
"""GiB of the largest layer's gradient with its float32 stand-in, however many images there are. Both by ``bench/memory.py``."""
_ROUNDING = int(0.12 * GIB)
"""Bytes that bf16 weights take besides: the largest layer in float32 with random bits of its size, by ``bench/memory.py``."""
_SPARE = 0.95
CONTEXT = GIB // 2
"""Bytes that a CUDA context takes beside the allocator."""
_PIXELS = 512 * 512
_WEIGHTS = 859_520_964
"""Of SD1.5's UNet, for which the figures above hold."""


def width(weights: int) -> float:
    """How wide a UNet of so many weights is beside SD1.5's, at most 1: its weights grow with the square, and what passes through it with the width."""
    return min(1.0, (weights / _WEIGHTS) ** 0.5)


def passing(pixels: int, sixteen_bit: bool, checkpointing: bool = False) -> int:
    """Bytes that a step holds besides weights, gradients and the optimizer's state.

    Args:
        pixels: of all images of the batch.
    """
    return int((_ACTIVATIONS[checkpointing] + _WORK) * GIB * pixels / _PIXELS * (1 if sixteen_bit else 2))


def with_reserve(size: int) -> int:
    """Bytes that must be free for so many: a tenth more for gaps between tensors, and what libraries and kernels keep for themselves."""
    return int(size * 1.1 + 0.3 * GIB)


def kept_of_unet(checkpointing: bool) -> float:
    """The share of what a step makes of each of the UNet's weights that is alive at once: with checkpointing, that of a block."""
    return 1 / 8 if checkpointing else 1.0


def beside(weights: int, optimizer: str, average: bool = False) -> int:
    """Bytes of float32 weights that are trained beside the model: themselves, gradients, optimizer, EMA, and the `LossLog`'s copy of both.

    In 16 bits, what computes is a copy, and its gradients are gathered in one tensor.

    Args:
        weights: how many.
    """
    return int(weights * (16 + _STATES[optimizer] + 8 * average))


def kept_beside(weights: int, optimizer: str, copies: int) -> int:
    """Bytes of a saved state of float32 weights that are trained beside the model: themselves, the optimizer and their copies.

    Args:
        weights: how many.
        copies: of the weights (EMA, the best by the validation images).
    """
    return int(weights * (4 * (1 + copies) + _STATES[optimizer]))


@dataclass(frozen=True)
class Form:
    """How the weights are held and moved.

    Attributes:
        weights: "fp32" or "bf16" (with stochastic rounding).
        optimizer: its name.
        in_backward: each weight moves as soon as its gradient is there.
        checkpointing: of gradients.
        single: computed in fp32 where 16 bits would be fp16 with loss scaling, which needs all gradients at once.
        exchanged: the host's model lies in main memory while it trains, and what is trained while the host works.
    """

    weights: str
    optimizer: str
    in_backward: bool
    checkpointing: bool
    single: bool = False
    swapped: bool = False

    def need(self, work: Work) -> int:
        """Bytes of a step, beside the host's own."""
        held = {"fp32": 4, "bf16": 2}[self.weights]
        sixteen_bit = work.sixteen_bit and not self.single
        gradients = 0 if self.in_backward else held
        cast = 2 if self.weights == "fp32" and sixteen_bit else 0  # autocast keeps a 16-bit copy of each weight for the step
        moving = int(work.weights * (gradients + cast)) + (_ROUNDING if self.weights == "bf16" else 0)
        pictures = work.pixels / _PIXELS
        saved = _SAVED[self.checkpointing] * pictures * (1 if sixteen_bit else 2)
        return self.rest(work) + moving + int((saved + _LAYER * min(1.0, pictures)) * GIB)

    def rest(self, work: Work) -> int:
        """Bytes that are held between steps."""
        held = {"fp32": 4, "bf16": 2}[self.weights]
        return int(work.weights * (held + (held if work.average else 0) + self._state))

    @property
    def _state(self) -> float:
        """Bytes of optimizer state a weight."""
        alone = self.in_backward or self.weights == "bf16"
        return _UNFLATTENED if self.optimizer == "adafactor" and not alone else _STATES[self.optimizer]

    def bytes_kept(self, copies: int) -> float:
        """Bytes a weight in a saved state.

        Args:
            copies: of the weights: themselves, their average, the best ones.
        """
        return {"fp32": 4, "bf16": 2}[self.weights] * copies + self._state + 1

    def __str__(self) -> str:
        parts = [f"{self.weights} weights", self.optimizer]
        parts += ["stepping in the backward pass"] * self.in_backward + ["gradient checkpointing"] * self.checkpointing
        parts += ["computed in fp32"] * self.single + ["changing places with the WebUI's model"] * self.swapped
        return ", ".join(parts)


@dataclass(frozen=True)
class Work:
    """What is trained.

    Attributes:
        weights: how many.
        pixels: of all images of a batch, class images counted.
        sixteen_bit: whether it is computed in 16 bit.
        average: whether an EMA is kept.
        validated: whether the best state is kept too, in main memory.
    """

    weights: int
    pixels: int
    sixteen_bit: bool
    average: bool = False
    validated: bool = False


@dataclass(frozen=True)
class Room:
    """Where it is to fit, in bytes.

    Attributes:
        free: on the device beside the host's model; 0 where the system does not tell.
        ram: in main memory; 0 likewise.
        guests: of the host's parts that a step needs and that are not on the device yet.
        away: of the host's parts on the device that a step does not need.
        image: that the host needs for an image between turns.
    """

    free: int
    ram: int = 0
    guests: int = 0
    away: int = 0
    picture: int = 0

    def holds(self, form: Form, work: Work) -> bool:
        """Whether training and the host's images find room."""
        if not self.free:
            return True
        return self.needed(form, work) <= self.free and (not form.swapped or not self.ram or self.parked(form, work) <= self.ram * _SPARE)

    def needed(self, form: Form, work: Work) -> int:
        """Bytes that must be free on the device: for a step with a reserve of a twentieth, and for the host's images."""
        step = int((form.need(work) + self.guests) / _SPARE)
        return max(0, step - self.away) if form.swapped else max(step, form.rest(work) + self.picture)

    def parked(self, form: Form, work: Work) -> int:
        """Bytes in main memory at the moment of an exchange: both models, and the best state with what stands aside for it."""
        held = {"fp32": 4, "bf16": 2}[form.weights]
        return form.rest(work) + self.away + (2 * held * work.weights if work.validated else 0)


@dataclass(frozen=True)
class Wish:
    """What the settings fix of the form; None leaves it open. Gradient checkpointing can be asked for, and is added where needed."""

    weights: str | None = None
    optimizer: str | None = None
    in_backward: bool | None = None
    checkpointing: bool = False
    bf16: bool = True
    """Whether the device computes bf16."""
    scaled: bool | None = None
    """Whether 16 bits are fp16 with loss scaling, which needs all gradients at once; None: where there is no bf16."""
    summed: bool = False
    """Gradients of several batches are summed, so that they are all needed at the end."""
    single: bool = False
    """Whether it may be computed in fp32 where 16 bits are usual."""
    swapped: bool | None = False


_ORDER = (
    Form("fp32", "adamw", False, False),
    Form("fp32", "adamw", False, True),
    Form("fp32", "adamw", True, True),
    Form("fp32", "adamw", True, True, single=True),
    Form("bf16", "adamw", True, False),
    Form("bf16", "adamw", True, True),
    Form("bf16", "adafactor", True, False),
    Form("bf16", "adafactor", True, True),
    Form("fp32", "adafactor", False, True),
    Form("fp32", "adafactor", True, True, single=True),
)


def choose(wish: Wish, work: Work, room: Room, advice: str = "") -> Form:
    """The first form, from exact to small, that keeps to the wish and fits; an exchange comes last, for it makes images wait.

    Args:
        advice: what else would help, said when nothing fits.

    Raises:
        InputError: none fits, with the figures and what to change; or the wish cannot be.
    """
    forms = candidates(wish, work)
    if not forms:
        raise InputError([precision.scaled_apart(wish.weights)])
    fitting = next((form for form in forms if room.holds(form, work)), None)
    if fitting is None:
        raise InputError([Problem("tuning.weights", _refusal(wish, forms, work, room, advice))])
    return fitting


def least(wish: Wish, work: Work) -> Form:
    """The form that keeps to the wish and takes least of the device."""
    forms = candidates(wish, work) or candidates(dataclasses.replace(wish, weights=None, in_backward=None), work)
    return min(forms, key=lambda form: (form.need(work), not form.swapped))


def candidates(wish: Wish, work: Work) -> list[Form]:
    """All forms that keep to the wish, in the order of `choose`; none where weights are to move apart and losses are scaled."""
    places = (False, True) if wish.swapped is None else (wish.swapped,)
    forms: dict[Form, None] = {}
    for swapped in places:
        for form in _ORDER:
            if form.weights == "bf16" and not wish.bf16 and wish.weights is None:
                continue
            if form.single and (wish.bf16 or not wish.single):
                continue
            wished = Form(
                wish.weights or form.weights,
                wish.optimizer or form.optimizer,
                form.in_backward if wish.in_backward is None else wish.in_backward,
                form.checkpointing or wish.checkpointing,
                form.single,
                swapped,
            )
            scaled = work.sixteen_bit and (not wish.bf16 if wish.scaled is None else wish.scaled) and not form.single
            if wish.in_backward is None and wished.in_backward and (wish.summed or scaled):
                wished = dataclasses.replace(wished, in_backward=False)
            if not (scaled and _apart(wished)) and not (form.single and wished.weights == "bf16"):
                forms[wished] = None
    return list(forms)


def _apart(form: Form) -> bool:
    """Whether each weight has an optimizer of its own (`PerParameter`), which knows nothing of a scaled loss."""
    return form.in_backward or form.weights == "bf16"


def _refusal(wish: Wish, forms: list[Form], work: Work, room: Room, advice: str) -> str:
    smallest = min(forms, key=lambda form: (room.needed(form, work), form.swapped))
    message = f"{smallest} needs {room.needed(smallest, work) / GIB:.1f} GiB free, and {room.free / GIB:.1f} are."
    if room.needed(smallest, work) <= room.free:
        parked = room.parked(smallest, work) / _SPARE
        message = f"{smallest} needs {parked / GIB:.1f} GiB of main memory to change places in, and {room.ram / GIB:.1f} are free."
    if not wish.bf16 and wish.weights is None:
        message += " The small forms need bf16, which this GPU or training.precision rules out."
    tiny = Form("bf16", "adafactor", True, True)
    if dataclasses.replace(smallest, swapped=False) != tiny and wish.bf16:
        message += (
            f" {tiny} would need {room.needed(tiny, work) / GIB:.1f}: set tuning.weights, optimizer.name and tuning.in_backward to auto."
        )
    return f"{message} {advice} Lower data.resolution or training.batch, close other programs that use the GPU, or train a LoRA.".replace(
        "  ", " "
    )
