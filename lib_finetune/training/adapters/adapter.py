"""An adapter: small trainable weights attached to modules of the borrowed view."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from lib_finetune.registry import Registry

Leaf = Callable[[Sequence[nn.Parameter]], torch.Tensor]
"""Weights that lie one behind the other → the matrix that stands for them in a computation."""


@dataclass(frozen=True)
class Target:
    """A module that gets a patch.

    Attributes:
        part: "unet" or "text".
        module: dotted name below the part's root in the borrowed view.
        kohya: its name in the file ("lora_unet_…").
        rank, alpha: of its patch; alpha / rank scales the patch.
    """

    part: str
    module: str
    kohya: str
    rank: int
    alpha: float


@dataclass(frozen=True)
class AdapterOptions:
    """Options of adapters besides rank and alpha."""

    dropout: float = 0.0
    factor: int = 8


class Adapter(Protocol):
    """Attached to a view; its weights are float32 on the view's device, whatever the base's dtype is."""

    network_module: str
    """kohya's name of the kind, `ss_network_module`."""

    def parameters(self, part: str) -> Mapping[str, nn.Parameter]:
        """Trainable weights of "unet" or "text" by their name in the file."""

    def scales(self, part: str) -> Mapping[str, float]:
        """The scale of each of `parameters` by its name: a weight changes by the product of its patch times its scale."""

    def packs(self) -> Sequence[Sequence[nn.Parameter]]:
        """Weights that compute as one matrix, and are to lie one behind the other."""

    def sit(self, leaf: Leaf) -> None:
        """Compute with what ``leaf`` gives for each of `packs` from now on; it gets the gradients."""

    def state(self) -> dict[str, torch.Tensor]:
        """Everything the file holds ("<kohya module>.<part>"), detached, on the device, float32."""

    def train(self, mode: bool) -> None:
        """Dropout on or off."""

    def off(self) -> AbstractContextManager[None]:
        """Context in which the view computes exactly what the base model computes."""


Build = Callable[[Mapping[str, nn.Module], Sequence[Target], AdapterOptions], Adapter]
ADAPTERS: Registry[Build] = Registry("adapter", "network.adapter")
