"""Lion, from lion-pytorch. Chen et al., Symbolic Discovery of Optimization Algorithms, arXiv 2302.06675 (rate 3 to 10 times below AdamW's)."""

from __future__ import annotations

from torch.optim import Optimizer

from lib_finetune.training.optim.optimizer import OPTIMIZERS, Groups, OptimizerKind, needs, param_groups


def _build(groups: Groups, weight_decay: float) -> Optimizer:
    try:
        from lion_pytorch import Lion
    except (ImportError, RuntimeError, AttributeError) as error:
        raise needs("lion-pytorch", "pip install --no-deps lion-pytorch==0.2.5", error) from error
    # lr must be above 0 when it is made; the schedule sets it before the first step.
    optimizer: Optimizer = Lion(param_groups(groups), lr=1e-4, weight_decay=weight_decay)
    return optimizer


OPTIMIZERS.register("lion")(OptimizerKind(_build, rate_factor=0.2, elementwise=True))
