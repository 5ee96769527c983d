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


def step_alone(optimizer: Optimizer) -> None:
    """The step of an optimizer of one weight, of which a whole model has hundreds: fused AdamW's kernel itself once its state is there.

    It computes what `AdamW.step` does, without its search through groups, devices and types for each weight.
    """
    (group,) = optimizer.param_groups
    (weight,) = group["params"]
    state = optimizer.state.get(weight)
    if not (state and isinstance(optimizer, AdamW) and group.get("fused")):
        optimizer.step()
        return
    beta1, beta2 = group["betas"]
    torch._foreach_add_([state["step"]], 1)
    torch._fused_adamw_(
        [weight], [weight.grad], [state["exp_avg"]], [state["exp_avg_sq"]], [], [state["step"]],
        lr=group["lr"], beta1=beta1, beta2=beta2, weight_decay=group["weight_decay"], eps=group["eps"],
        amsgrad=False, maximize=False, grad_scale=None, found_inf=None,
    )  # fmt: skip


def _build(groups: Groups, weight_decay: float) -> Optimizer:
    device = next(parameter.device for parameters in groups.values() for parameter in parameters)
    return AdamW(param_groups(groups), lr=0.0, weight_decay=weight_decay, fused=has_fused(device))


OPTIMIZERS.register("adamw")(OptimizerKind(_build, elementwise=True))
