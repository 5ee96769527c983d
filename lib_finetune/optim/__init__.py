"""The optimizers, one small file each."""

from lib_finetune.optim import adafactor, adamw, adamw8bit, lion, prodigy  # noqa: F401  registration
from lib_finetune.optim.optimizer import OPTIMIZERS, OptimizerKind, automatic_rates, rate_warnings

__all__ = ["OPTIMIZERS", "OptimizerKind", "automatic_rates", "rate_warnings"]
