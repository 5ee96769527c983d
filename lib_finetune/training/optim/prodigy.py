"""Prodigy, which finds its own rate, from prodigyopt. Mishchenko and Defazio, arXiv 2306.06101."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO

from torch.optim import Optimizer

from lib_finetune.training.optim.optimizer import OPTIMIZERS, Groups, OptimizerKind, needs, param_groups


def _build(groups: Groups, weight_decay: float) -> Optimizer:
    try:
        from prodigyopt import Prodigy
    except (ImportError, RuntimeError, AttributeError) as error:
        raise needs("prodigyopt", "pip install --no-deps prodigyopt==1.1.2", error) from error
    # The safeguard keeps the estimate from jumping during warm-up, as Prodigy's authors advise.
    with redirect_stdout(StringIO()):  # it prints that decay is decoupled
        optimizer: Optimizer = Prodigy(
            param_groups(groups), lr=1.0, weight_decay=weight_decay, use_bias_correction=True, safeguard_warmup=True
        )
    return optimizer


OPTIMIZERS.register("prodigy")(OptimizerKind(_build, rate_factor=None, elementwise=True))
