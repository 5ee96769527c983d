"""Adafactor with a given rate, from transformers. Shazeer and Stern, arXiv 1804.04235."""

from __future__ import annotations

from torch.optim import Optimizer

from lib_finetune.training.optim.optimizer import OPTIMIZERS, Groups, OptimizerKind, param_groups


def _build(groups: Groups, weight_decay: float) -> Optimizer:
    from transformers.optimization import Adafactor

    # Relative steps and parameter scaling would override the rate that the schedule sets.
    optimizer: Optimizer = Adafactor(param_groups(groups), lr=0.0, weight_decay=weight_decay, scale_parameter=False, relative_step=False)
    return optimizer


OPTIMIZERS.register("adafactor")(OptimizerKind(_build))
