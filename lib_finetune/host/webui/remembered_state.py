"""The remembered state of the host: its weights and everything around them, to compare before and after a turn."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn

from lib_finetune.host.webui import weights
from lib_finetune.host.webui.modules import lora_extension, webui
from lib_finetune.model.normal_tensor import version

_ADDRESS = re.compile(r" (?:object )?at 0x[0-9a-fA-F]+")
_NETWORKS, _PLACE = "the list of active networks", "the place of the "
_PUT_BACK = (_NETWORKS, _PLACE, "torch's grad mode", "torch's inference mode", "torch's autocast")
"""Values that are put back after an image whoever changed them, or that our own thread must not change."""
_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_load_state_dict_pre_hooks",
)


class Mark(NamedTuple):
    """The state of one tensor without the tensor, so that nothing is kept alive.

    Attributes:
        pointer: address of its first element.
        version: torch's count of the writes to it; None for an inference tensor, whose writes the digest alone sees.
        patchable: the Lora extension holds a backup of it, so writes between turns are its own and were taken back.
    """

    pointer: int
    version: int | None
    requires_grad: bool
    dtype: torch.dtype
    patchable: bool

    def differs(self, other: Mark) -> str | None:
        """What happened to the tensor between two looks at it, or None."""
        if self.dtype != other.dtype:
            return f"is {other.dtype}, was {self.dtype}"
        if self.requires_grad != other.requires_grad:
            return f"has requires_grad {other.requires_grad}, had {self.requires_grad}"
        if self.version != other.version:
            return "was written to"
        return "is elsewhere in memory" if self.pointer != other.pointer else None


def marks(model: nn.Module) -> dict[str, Mark]:
    """Checkpoint name → mark, for every parameter and buffer."""
    marked = {}
    for prefix, module in weights.walk(model):
        patchable = module.__dict__.get("network_weights_backup") is not None
        for table in (module._parameters, module._buffers):
            for name, tensor in table.items():
                if tensor is not None:
                    marked[prefix + name] = Mark(tensor.data_ptr(), version(tensor), tensor.requires_grad, tensor.dtype, patchable)
    return marked


class Function:
    """An object that somebody has put in place: equal only to itself, and shown by its name. Does not keep it alive."""

    def __init__(self, function: Any) -> None:
        self._name = str(getattr(function, "__name__", type(function).__name__))
        self._id = id(function)
        try:
            self._alive: Callable[[], Any] = weakref.ref(function)
        except TypeError:  # it takes no weak references
            self._alive = lambda: True

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Function):
            return NotImplemented
        # Another object may have the address of one that is gone.
        return self._id == other._id and self._alive() is not None and other._alive() is not None

    def __hash__(self) -> int:
        return hash(self._name)

    def __repr__(self) -> str:
        return self._name


@dataclass(frozen=True)
class Surroundings:
    """Everything but the weights: sentence subject → a value that can be compared.

    Attributes:
        modules: name → training flag, hooks and replaced forward of each module.
        values: everything else.
    """

    values: Mapping[str, Any]
    modules: Mapping[str, Any] = field(default_factory=dict)

    def differences(self, after: Surroundings) -> dict[str, str]:
        """Subject → "is …, was …" for each value that has changed."""
        changed = {}
        for subject in {**self.values, **after.values}:
            is_now, was = after.values.get(subject), self.values.get(subject)
            if is_now != was:
                changed[subject] = f"is {shown(is_now)}, was {shown(was)}"
        if self.modules != after.modules:
            for name in {**self.modules, **after.modules}:
                is_now, was = after.modules.get(name), self.modules.get(name)
                if is_now != was:
                    changed[f"the module {name.rstrip('.') or 'model'}"] = f"is {shown(is_now)}, was {shown(was)}"
        return changed

    def with_changes(self, before: Surroundings, after: Surroundings) -> Surroundings:
        """These values, with the changes of somebody else between two later comparisons. Values that we restore ourselves stay as they are here."""
        ours = {subject: value for subject, value in self.values.items() if subject.startswith(_PUT_BACK)}
        return Surroundings(
            {**_overlaid(self.values, before.values, after.values), **ours}, _overlaid(self.modules, before.modules, after.modules)
        )


def _overlaid(first: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    gone = before.keys() - after.keys()
    changed = {name: value for name, value in after.items() if name not in before or before[name] != value}
    return {name: value for name, value in {**first, **changed}.items() if name not in gone}


def surroundings(model: nn.Module) -> Surroundings:
    """Look at training flags, hooks, replaced forwards, torch's flags, the attention optimisation, active networks, and places."""
    modules: dict[str, Any] = {}
    classes: dict[Any, None] = {}
    for prefix, module in weights.walk(model):
        own = module.__dict__
        hooks = [Function(hook) for table in _HOOKS if own.get(table) for hook in own[table].values()]
        name = prefix if prefix not in modules else f"{prefix}wrapped."
        modules[name] = (own.get("training"), tuple(hooks), Function(own["forward"]) if "forward" in own else None)
        classes[type(module)] = None
    values: dict[str, Any] = {f"the class {kind.__module__}.{kind.__qualname__}": Function(kind.forward) for kind in classes}
    values.update({f"torch's {name}": value for name, value in _torch_flags().items()})
    values["the attention optimisation"] = _attention()
    values[_NETWORKS] = _networks()
    if not getattr(model, "lowvram", False):  # with --medvram the modules wander by the host's own rules
        values.update({f"{_PLACE}{part}": str(weights.place_of(weights.module_of(model, part))) for part in weights.PARTS})
    return Surroundings(values, modules)


def options() -> dict[str, Any]:
    """The WebUI's settings as they are now."""
    return dict(webui("shared").opts.data)


def _torch_flags() -> dict[str, Any]:
    cudnn, cuda = torch.backends.cudnn, torch.backends.cuda
    return {
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "autocast": (torch.is_autocast_enabled(), torch.is_autocast_cpu_enabled()),
        "default dtype": torch.get_default_dtype(),
        "number of threads": torch.get_num_threads(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "cudnn.enabled": cudnn.enabled,
        "cudnn.benchmark": cudnn.benchmark,
        "cudnn.deterministic": cudnn.deterministic,
        "cudnn.allow_tf32": cudnn.allow_tf32,
        "matmul.allow_tf32": cuda.matmul.allow_tf32,
        "matmul.allow_fp16_reduced_precision_reduction": cuda.matmul.allow_fp16_reduced_precision_reduction,
        "attention kernels": (cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled()),
    }


def _attention() -> tuple[Any, ...]:
    hijack = webui("sd_hijack")
    return (getattr(hijack.current_optimizer, "name", None), hijack.model_hijack.optimization_method)


def _networks() -> tuple[Any, ...]:
    networks = lora_extension()
    return () if networks is None else tuple((net.name, net.te_multiplier, net.unet_multiplier) for net in networks.loaded_networks)


def shown(value: Any) -> str:
    """The text of a value for a sentence: short, and without addresses in memory."""
    text = _ADDRESS.sub("", repr(value))
    return text if len(text) <= 60 else text[:57] + "…"
