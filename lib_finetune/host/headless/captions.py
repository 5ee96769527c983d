"""Captions without a WebUI: there are none, because nothing describes images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lib_finetune.errors import HostError, InputError, Problem

if TYPE_CHECKING:
    from PIL import Image


class HeadlessCaptions:
    """Implements `ports.captions.HostCaptions`."""

    def captioners(self) -> tuple[str, ...]:
        """None."""
        return ()

    def describe(self, captioner: str, image: Image.Image) -> str:
        """
        Raises:
            HostError: always.
        """
        raise HostError(f"There is no {captioner} here: the WebUI has interrogators.")

    def face(self, image: Image.Image) -> tuple[float, float] | None:
        """
        Raises:
            InputError: always.
        """
        raise InputError([Problem("data.crop", "Faces are found inside the WebUI only. Choose focal.")])
