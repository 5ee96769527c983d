"""AdamW of torch, fused where it exists. Loshchilov and Hutter, arXiv 1711.05101."""

from __future__ import annotations

import torch
from torch.optim import AdamW, Optimizer

from lib_finetune.training.optim.optimizer import OPTIMIZERS, Groups, OptimizerKind, param_groups


def has_fused(device: torch.device) -> bool:
    """Whether this torch has a fused AdamW for the device."""
    # torch knows fused AdamW on the CPU from 2.4 on; earlier versions refuse it.
    major, minor = (int(part) for part in torch.__version__.split(".")[:2])
    return device.type == "cuda" or (device.type == "cpu" and (major, minor) >= (2, 4))


def _build(groups: Groups, weight_decay: float) -> Optimizer:
    device = next(parameter.device for parameters in groups.values() for parameter in parameters)
    return AdamW(param_groups(groups), lr=0.0, weight_decay=weight_decay, fused=has_fused(device))


OPTIMIZERS.register("adamw")(OptimizerKind(_build, elementwise=True))
