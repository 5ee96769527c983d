"""Captions of images by the interrogators that come with the WebUI."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from PIL import Image

from lib_finetune.errors import HostError, OutOfMemoryError
from lib_finetune.host.webui import faces
from lib_finetune.host.webui.loading import await_model
from lib_finetune.host.webui.modules import tagger_extension, webui
from lib_finetune.host.webui.turn import Turn

_log = logging.getLogger(__name__)
_WD14 = "WD14: "
_LIKELY = 0.35
"""The extension's own limit for a tag."""
_FACE = 3
_ESCAPED = re.compile(r"\\([\\()])")


class WebuiCaptions:
    """Implements `ports.captions.HostCaptions`."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def captioners(self) -> tuple[str, ...]:
        """Names of the interrogators, and of the WD14 tagger's where that extension is; the model of each is downloaded at its first use."""
        return (*_SAY, *(_WD14 + name for name in _taggers()))

    def describe(self, captioner: str, image: Image.Image) -> str:
        """See `HostCaptions.describe`.

        Raises:
            HostError: the WebUI could not run it.
            OutOfMemoryError: the device has no room for it.
        """
        await_model()
        with self._turn.held():
            return describe(captioner, image)

    def face(self, image: Image.Image) -> tuple[float, float] | None:
        """See `HostCaptions.face`.

        Raises:
            InputError: the WebUI's face finder cannot be used.
        """
        return faces.face(image)


def describe(captioner: str, image: Image.Image) -> str:
    """What the image shows. Call under the turn; the interrogator leaves the device afterwards, unless the WebUI's settings keep it.

    Raises:
        HostError: there is no such interrogator, or the WebUI could not run it (most often: its model could not be downloaded).
        OutOfMemoryError: the device has no room for it.
    """
    taggers = {_WD14 + name: tagger for name, tagger in _taggers().items()}
    if captioner not in _SAY and captioner not in taggers:
        raise HostError(f"The WebUI has no interrogator {captioner!r}: it has {', '.join((*_SAY, *taggers))}.")
    try:
        webui("lowvram").send_everything_to_cpu()  # as the WebUI does before it interrogates, under --medvram
        return _SAY[captioner](image) if captioner in _SAY else _tagged(taggers[captioner], image)
    except torch.cuda.OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"The device has no room for {captioner}: write the captions by hand, or close what else uses it."
        ) from error
    except Exception as error:  # the WebUI raises whatever it likes: an IndexError where a download has failed
        reason = "its model is not there and could not be downloaded" if isinstance(error, IndexError) else repr(error)
        raise HostError(
            f"{captioner} could not describe the images: {reason}. Try Interrogate in img2img; the WebUI's console has the details."
        ) from error


def _taggers() -> Mapping[str, Any]:
    """Name → interrogator of the WD14 tagger's extension; none where it is not there, or is of a form that is not known here.

    Reference: `tagger/utils.py` and `tagger/interrogator.py` of toriato's stable-diffusion-webui-wd14-tagger and of its successors.
    """
    extension = tagger_extension()
    if extension is None:
        return {}
    try:
        if not extension.interrogators:
            extension.refresh_interrogators()
        return dict(extension.interrogators)
    except Exception:  # noqa: BLE001  an edge: an extension of others fails as it likes; captions can be written by hand
        _log.debug("The WD14 tagger's models cannot be listed", exc_info=True)
        return {}


def _tagged(tagger: Any, image: Image.Image) -> str:
    """Tags that are likely enough, the likeliest first, with spaces for underscores except in faces such as o_o."""
    try:
        shares = tagger.interrogate(image)[1]
    finally:
        getattr(tagger, "unload", lambda: None)()  # the first versions have none
    likely = sorted((tag for tag, share in shares.items() if float(share) >= _LIKELY), key=lambda tag: -float(shares[tag]))
    return ", ".join(str(tag).replace("_", " ") if len(str(tag)) > _FACE else str(tag) for tag in likely)


def _deepbooru(image: Image.Image) -> str:
    tagger = webui("deepbooru").model
    tagger.start()
    try:
        tags = str(tagger.tag_multi(image, force_disable_ranks=True))
    finally:
        tagger.stop()
    # The interrogator escapes brackets, because it writes prompts; captions go without the escapes.
    return _ESCAPED.sub(r"\1", tags)


def _blip(image: Image.Image) -> str:
    """The sentence alone: what `interrogate` adds to it by CLIP (artists, flavours) describes prompts, not images."""
    shared, devices = webui("shared"), webui("devices")
    interrogator: Any = shared.interrogator
    if interrogator.blip_model is None:
        model = interrogator.load_blip_model()
        halved = not shared.cmd_opts.no_half and not interrogator.running_on_cpu
        interrogator.blip_model = model.half() if halved else model
    interrogator.blip_model = interrogator.blip_model.to(devices.device_interrogate)
    interrogator.dtype = next(interrogator.blip_model.parameters()).dtype
    try:
        return str(interrogator.generate_caption(image))
    finally:
        interrogator.send_blip_to_ram()


_SAY: Mapping[str, Callable[[Image.Image], str]] = {"BLIP": _blip, "deepbooru": _deepbooru}
