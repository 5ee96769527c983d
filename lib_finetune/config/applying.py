"""Which settings apply beside the others."""

from __future__ import annotations

from lib_finetune.config.codec import all_leaves
from lib_finetune.config.settings import METHODS, Settings

_PATCHES, _WORDS = ("lora", "pivotal_tuning"), ("textual_inversion", "pivotal_tuning")
OF_METHOD = {"network": _PATCHES, "tuning": ("dreambooth",), "embedding": _WORDS}
"""First part of a path → the methods that alone read such settings."""


def applies(settings: Settings, path: str) -> bool:
    """Whether a setting is read beside the others."""
    methods = OF_METHOD.get(path.partition(".")[0], METHODS)
    condition = all_leaves()[path].about.when
    return settings.method in methods and (condition is None or bool(condition(settings)))
