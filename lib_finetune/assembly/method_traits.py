"""What the chosen method does: whether it teaches a word, trains patches, keeps its states."""

from __future__ import annotations

from lib_finetune.config.settings import PATCH_METHODS, WORD_METHODS, Settings


def teaches_word(settings: Settings) -> bool:
    """Whether the method gives the file's name a meaning as a word of the prompt."""
    return settings.method in WORD_METHODS


def bundles_word(settings: Settings) -> bool:
    """Whether the word goes into the LoRA file."""
    return settings.method == "pivotal_tuning" and settings.embedding.bundle


def patches(settings: Settings) -> bool:
    """Whether the method trains a network beside the model."""
    return settings.method in PATCH_METHODS


def keeps_states(settings: Settings) -> str:
    """Which states stay when a run is done: "none", "last" or "all"."""
    chosen = settings.saving.states
    if chosen == "auto":
        return "none" if settings.method == "dreambooth" else "last"
    return chosen
