"""Where a host keeps files, and what it says of those that are written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Paths:
    """Where a host keeps things; all absolute. ``data`` is Finetune's own folder (``.finetune``: datasets, runs, cache)."""

    lora: Path
    checkpoints: Path
    embeddings: Path
    data: Path

    @property
    def all(self) -> tuple[Path, ...]:
        """Every one."""
        return self.lora, self.checkpoints, self.embeddings, self.data


@dataclass(frozen=True)
class Card:
    """What the WebUI's card of a LoRA or embedding shows beside the file."""

    activation_text: str
    preferred_weight: float
    description: str
    notes: str = ""


@dataclass(frozen=True)
class Verification:
    """What the host's own loader said of a saved file.

    Attributes:
        matched: modules of the file that the loader matched to the model.
        total: modules in the file.
        message: one line for the log.
    """

    matched: int
    total: int
    message: str

    @property
    def passed(self) -> bool:
        """True when every module was matched."""
        return self.total > 0 and self.matched == self.total


class HostFiles(Protocol):
    """Receives the files that are written for a host. Job's thread, no lease held."""

    def artifact_saved(self, kind: str, path: Path, card: Card) -> Verification:
        """A file was written: refresh the lists, pass it through the host's own loader, write the card beside it.

        Args:
            kind: "lora", "checkpoint" or "embedding".
        """

    def artifact_removed(self, kind: str, path: Path) -> None:
        """A file that `artifact_saved` announced is gone: refresh the lists, forget what is remembered of it."""

    def card_picture(self, kind: str, path: Path, image: Image.Image) -> None:
        """Put an image on the card of a file that `artifact_saved` announced."""
