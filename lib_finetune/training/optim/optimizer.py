"""An optimizer: how it is made from groups of parameters, and which learning rate suits it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer

from lib_finetune.errors import DependencyError, Problem
from lib_finetune.registry import Registry

Groups = Mapping[str, list[nn.Parameter]]
_BASE_RATE = 1e-4  # AdamW on LoRA with alpha = rank; peers.md section 2
_HIGHEST_RATE = 1e-3


@dataclass(frozen=True)
class OptimizerKind:
    """A registered optimizer.

    Attributes:
        build: (group name → parameters, weight decay) → optimizer whose param_groups carry "name"; rates are set each step.
        rate_factor: its learning rate against AdamW's; None for one that finds its own and wants 1.
        elementwise: whether it moves each number as if there were no others beside it, so that weights may lie in one tensor.
    """

    build: Callable[[Groups, float], Optimizer]
    rate_factor: float | None = 1.0
    elementwise: bool = False


OPTIMIZERS: Registry[OptimizerKind] = Registry("optimizer", "optimizer.name")


def param_groups(groups: Groups) -> list[dict[str, Any]]:
    """torch's form of the groups, empty ones left out."""
    return [{"name": name, "params": parameters} for name, parameters in groups.items() if parameters]


def automatic_rates(kind: OptimizerKind, rank: int, alpha: float) -> tuple[float, float]:
    """(UNet, text encoder) learning rates that follow optimizer and alpha.

    A patch is scaled by alpha / rank, so with Adam's unit steps the weights move by rate × alpha / rank: the rate is raised
    by the inverse, up to 1e-3.
    """
    if kind.rate_factor is None:
        return 1.0, 1.0
    unet = min(_HIGHEST_RATE, _BASE_RATE * rank / alpha) * kind.rate_factor
    return unet, unet / 2


def rate_warnings(name: str, chosen: Mapping[str, float], automatic: Mapping[str, float]) -> list[str]:
    """A sentence for each rate that a person has set and that differs from the automatic one by a factor of ten or more.

    Args:
        chosen, automatic: learning rates by group.
    """
    return [
        f"The learning rate {rate:.3g} of the {group} does not fit {name}: about {automatic[group]:.3g} is usual. It is used as you set it."
        for group, rate in chosen.items()
        if rate > 0 and not 0.1 < rate / automatic[group] < 10
    ]


def needs(package: str, command: str, error: Exception) -> DependencyError:
    """The error of an optimizer whose library is missing."""
    message = f"{package} is needed for this optimizer and cannot be used here ({error}). Add it with: {command}. AdamW needs nothing."
    return DependencyError([Problem("optimizer.name", message)])
