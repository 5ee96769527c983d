"""What a host says of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL import Image


class HostCaptions(Protocol):
    """What in the host can say what an image shows."""

    def captioners(self) -> Sequence[str]:
        """Names of what can say what an image shows; empty where the host has nothing of the kind. Any thread."""

    def describe(self, captioner: str, image: Image.Image) -> str:
        """What an RGB image shows, as one of `captioners` says it. Takes the turn itself.

        Raises:
            HostError: it cannot say so.
        """

    def face(self, image: Image.Image) -> tuple[float, float] | None:
        """Where the largest face of an RGB image is, as shares 0..1 of width and height; None without a face. Any thread, no turn.

        Raises:
            InputError: there is no face finder here.
        """
