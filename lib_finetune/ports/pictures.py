"""Pictures that the host is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL import Image

PICTURE_BYTES = int(1.2 * 2**30)
"""Bytes beside the model that a txt2img of 512 px takes on a card, the autoencoder's last layers at most."""


@dataclass(frozen=True)
class PictureRequest:
    """A picture to be made by the host.

    Attributes:
        prompt, negative_prompt: plain prompts without extra-network tags.
        loras: (file path, weight) pairs that are applied for this picture only.
        embeddings: files whose stems are words of the prompt; the WebUI finds those in its own folder by itself.
        width_px, height_px: multiples of 8.
        steps, guidance, seed: as in txt2img.
        checkpoint: a file whose weights stand in for the loaded ones for this picture only.
    """

    prompt: str
    negative_prompt: str = ""
    loras: Sequence[tuple[Path, float]] = ()
    embeddings: Sequence[Path] = ()
    width_px: int = 512
    height_px: int = 512
    steps: int = 20
    guidance: float = 7.0
    seed: int = 1
    checkpoint: Path | None = None


class HostPictures(Protocol):
    """The host's own txt2img. Job's thread, no lease held."""

    def make(self, request: PictureRequest) -> Image.Image:
        """Make a picture the way the host's own txt2img does. Takes the turn itself; leaves torch's random states and progress as they were."""

    def make_batch(self, request: PictureRequest, count: int) -> list[Image.Image]:
        """As `make`, of ``count`` seeds from the request's on, in one batch."""
