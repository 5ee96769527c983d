"""AdamW with 8-bit state, from bitsandbytes. Dettmers et al., arXiv 2110.02861."""

from __future__ import annotations

from torch.optim import Optimizer

from lib_finetune.training.optim.optimizer import OPTIMIZERS, Groups, OptimizerKind, needs, param_groups


def _build(groups: Groups, weight_decay: float) -> Optimizer:
    try:
        from bitsandbytes.optim import AdamW8bit
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        raise needs("bitsandbytes", "pip install --no-deps bitsandbytes==0.45.5", error) from error
    optimizer: Optimizer = AdamW8bit(param_groups(groups), lr=0.0, weight_decay=weight_decay)
    return optimizer


OPTIMIZERS.register("adamw8bit")(OptimizerKind(_build))
