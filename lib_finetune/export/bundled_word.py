"""Words inside a LoRA file, in the form that the WebUI 1.10 reads: ``bundle_emb.<word>.string_to_param.*``.

Reference: `load_network` and `load_networks` in the WebUI's extensions-builtin/Lora/networks.py. A word counts while its
file is named in the prompt, whatever the file's weight is, and gives way to an embedding of its name in the folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

_PREFIX = "bundle_emb."
_VECTORS = ".string_to_param."


def key(word: str) -> str:
    """The name of a word's tensor; the word holds no dot, for there the WebUI ends it."""
    return f"{_PREFIX}{word}{_VECTORS}*"


def names(keys: Iterable[str]) -> set[str]:
    """The words that a file of these keys brings."""
    return {name.removeprefix(_PREFIX).partition(".")[0] for name in keys if name.startswith(_PREFIX)}


def parted(file: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """(the patches of a LoRA file, its words' vectors [n, width] by word)."""
    patches = {name: value for name, value in file.items() if not name.startswith(_PREFIX)}
    words = {
        name.removeprefix(_PREFIX).partition(".")[0]: value.float().reshape(-1, value.shape[-1])
        for name, value in file.items()
        if name.startswith(_PREFIX) and _VECTORS in name
    }
    return patches, words
