"""AdamW with 8-bit state, from bitsandbytes. Dettmers et al., arXiv 2110.02861."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from lib_finetune.errors import DependencyError, Problem, is_out_of_memory
from lib_finetune.training.optim.optimizer import OPTIMIZERS, Groups, OptimizerKind, needs, param_groups

_COMMAND = "pip install --no-deps bitsandbytes=={}"
_VERSIONS = (((12, 9), "0.45.5"), ((99, 0), "0.48.2"))
"""CUDA version, exclusive limit → the bitsandbytes that has kernels for it; later ones need a later torch, too."""
_TRIED = 8192
"""Size of the tensor for the trial; bitsandbytes keeps 8-bit state from 4096 numbers on."""


def command_for(cuda: str) -> str:
    """How to install the bitsandbytes that suits a torch made for this CUDA ("12.1")."""
    major, minor = (int(part) for part in cuda.split(".")[:2])
    return _COMMAND.format(next(version for below, version in _VERSIONS if (major, minor) < below))


def _build(groups: Groups, weight_decay: float) -> Optimizer:
    cuda = torch.version.cuda
    if cuda is None:
        message = "adamw8bit needs a torch made for CUDA, and this one is for other devices. Choose adafactor or adamw."
        raise DependencyError([Problem("optimizer.name", message)])
    try:
        from bitsandbytes.optim import AdamW8bit
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        raise needs("bitsandbytes", command_for(cuda), error) from error
    device = next(parameter.device for parameters in groups.values() for parameter in parameters)
    if device.type == "cuda" and (reason := _failure(AdamW8bit, device)):
        raise needs("bitsandbytes", command_for(cuda), reason)
    optimizer: Optimizer = AdamW8bit(param_groups(groups), lr=0.0, weight_decay=weight_decay)
    return optimizer


@lru_cache
def _failure(kind: Any, device: torch.device) -> Exception | None:
    """Why the library cannot train on this device, or None: some builds import, and then fail or do nothing at the first step."""
    tensor = nn.Parameter(torch.ones(_TRIED, device=device))
    tensor.grad = torch.ones_like(tensor)
    try:
        kind([tensor], lr=0.1).step()
    except (RuntimeError, AttributeError, OSError, NotImplementedError, TypeError, NameError) as error:
        if is_out_of_memory(error):
            raise
        return error.with_traceback(None)
    moved = tensor.detach()
    return None if bool((moved.isfinite() & (moved < 1)).all()) else RuntimeError("its first step does not move a weight")


OPTIMIZERS.register("adamw8bit")(OptimizerKind(_build))
