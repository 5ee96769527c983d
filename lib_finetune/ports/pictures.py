"""Images that the host is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from PIL import Image

PICTURE_BYTES = int(1.2 * 2**30)
"""Bytes beside the model that a txt2img of 512 px takes on a card, the autoencoder's last layers at most."""
_SAMPLED_BYTES = int(0.3 * 2**30)
"""Of an image of 512 px while it is sampled, with and without its prompt; those of a batch lie side by side, and are decoded one by one."""


def picture_bytes(side_px: int = 512, count: int = 1, float32_vae: bool = False, float32_unet: bool = False) -> int:
    """Bytes beside the model that a batch of images takes on a card. Computed from `PICTURE_BYTES`, not measured."""
    decoded = PICTURE_BYTES * (2 if float32_vae else 1)
    sampled = _SAMPLED_BYTES * count * (2 if float32_unet else 1)
    return int(max(decoded, sampled) * side_px**2 / 512**2)


SAMPLER, SCHEDULER = "DPM++ 2M", "Karras"
"""How every image is sampled, as the WebUI names it; a host without the WebUI samples by the same method."""


def _never() -> bool:
    return False


def _unheard(_done: int, _total: int) -> None:
    """The steps of an image that nobody waits for."""


@dataclass(frozen=True)
class PictureRequest:
    """An image to be made by the host.

    Attributes:
        prompt, negative_prompt: plain prompts without extra-network tags.
        loras: (file path, weight) pairs that are applied for this image only.
        embeddings: files whose stems are words of the prompt; the WebUI finds those in its own folder by itself.
        width_px, height_px: multiples of 8.
        steps, guidance, seed: as in txt2img.
        checkpoint: a file whose weights stand in for the loaded ones for this image only.
        clip_skip: which layer of the text encoder is read, counted from the end, 1 the last; None: as the host is set.
        interrupt_asked: looked at between sampling steps, perhaps from another thread; once it answers True, the host leaves the image
            unfinished and raises `PictureInterruptedError`.
        on_step: told (sampling steps done, of how many), perhaps from another thread.
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
    clip_skip: int | None = None
    interrupt_asked: Callable[[], bool] = field(default=_never, compare=False, repr=False)
    on_step: Callable[[int, int], None] = field(default=_unheard, compare=False, repr=False)

    def look(self) -> dict[str, Any]:
        """All that an image without files depends on beside seed and checkpoint: what is kept of such a request is kept under this."""
        names = ("prompt", "negative_prompt", "width_px", "height_px", "steps", "guidance", "clip_skip")
        return {**{name: getattr(self, name) for name in names}, "sampler": f"{SAMPLER} {SCHEDULER}"}


class HostPictures(Protocol):
    """The host's own txt2img. Job's thread, no lease held."""

    def make(self, request: PictureRequest) -> Image.Image:
        """Make an image the way the host's own txt2img does. Takes the turn itself; leaves torch's random states and progress as they were.

        Raises:
            PictureInterruptedError: the request asked for that between two sampling steps, or the person did.
        """

    def make_batch(self, request: PictureRequest, count: int) -> list[Image.Image]:
        """As `make`, of ``count`` seeds from the request's on, in one batch."""
