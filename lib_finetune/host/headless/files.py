"""Saved files without a WebUI: each is compared with the model that the host holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lib_finetune.export import bundled_word, embedding_file
from lib_finetune.export import card as cards
from lib_finetune.model import checkpoint_reader
from lib_finetune.model.lora_merge import by_module
from lib_finetune.model.shapes import interchangeable
from lib_finetune.ports.files import Card, Verification

if TYPE_CHECKING:
    from PIL import Image

    from lib_finetune.host.headless.model import HeldCheckpoint


class HeadlessFiles:
    """Implements `ports.files.HostFiles`."""

    def __init__(self, held: HeldCheckpoint) -> None:
        self._held = held

    def artifact_saved(self, kind: str, path: Path, card: Card) -> Verification:
        """Write the card, and compare the file with the model."""
        lost = cards.card_or_reason(path, card)
        verification = {"lora": self._lora, "checkpoint": self._checkpoint, "embedding": self._embedding}[kind](path)
        return replace(verification, message=verification.message + lost)

    def artifact_removed(self, kind: str, path: Path) -> None:
        """Do nothing: files are read anew each time."""

    def card_picture(self, kind: str, path: Path, image: Image.Image) -> None:
        """See `HostFiles.card_picture`."""
        cards.write_picture(path, kind, image)

    def _checkpoint(self, path: Path) -> Verification:
        tensors = checkpoint_reader.read(path, torch.float32, torch.device("cpu"))
        shapes = {name: tuple(tensor.shape) for name, tensor in self._held.tensors.items() if not name.endswith("position_ids")}
        matched = sum(name in tensors and interchangeable(tuple(tensors[name].shape), shape) for name, shape in shapes.items())
        return Verification(matched, len(shapes), f"{matched} of {len(shapes)} weights of the model are in {path.name}.")

    def _embedding(self, path: Path) -> Verification:
        width_of_file, width_of_model = embedding_file.read(path).shape[1], self._held.text_width
        fits = width_of_file == width_of_model
        return Verification(int(fits), 1, f"The vectors of {path.name} are {width_of_file} wide, the model's {width_of_model}.")

    def _lora(self, path: Path) -> Verification:
        from safetensors.torch import load_file

        patches, words = bundled_word.parted(load_file(str(path)))
        modules = by_module(patches)
        matched = sum(name in self._held.kohya_modules for name in modules)
        fitting = sorted(word for word, vectors in words.items() if vectors.shape[1] == self._held.text_width)
        message = f"{matched} of {len(modules)} modules of {path.name} belong to the model"
        brings = f"; it brings {len(fitting)} of {len(words)} words: {', '.join(fitting)}." if words else "."
        return Verification(matched + len(fitting), len(modules) + len(words), message + brings)
