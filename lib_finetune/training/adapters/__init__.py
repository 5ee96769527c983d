"""The adapters: what is injected beside the borrowed weights, and kohya's names for it."""

from lib_finetune.training.adapters import loha, lokr, lora  # noqa: F401  registration
from lib_finetune.training.adapters.adapter import ADAPTERS, Adapter, AdapterOptions, Target

__all__ = ["ADAPTERS", "Adapter", "AdapterOptions", "Target"]
