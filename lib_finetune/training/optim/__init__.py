"""The optimizers, one small file each."""

from lib_finetune.training.optim import adafactor, adamw, adamw8bit, lion, prodigy  # noqa: F401  registration
from lib_finetune.training.optim.optimizer import OPTIMIZERS, OptimizerKind, automatic_rates, rate_warnings

__all__ = ["OPTIMIZERS", "OptimizerKind", "automatic_rates", "rate_warnings"]
