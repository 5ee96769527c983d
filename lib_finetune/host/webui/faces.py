"""Where a face is, by the face finder of the WebUI's own focal crop (YuNet through OpenCV)."""

from __future__ import annotations

import threading

from PIL import Image

from lib_finetune.errors import InputError, Problem
from lib_finetune.host.webui.modules import webui

_LARGEST_PX = 1024
_download_lock = threading.Lock()


def face(image: Image.Image) -> tuple[float, float] | None:
    """The place of the largest face (the eyes rather than the chin), as shares of width and height; None without one. Any thread.

    The finder's model (0.2 MB) is downloaded by the WebUI at its first use. Its fallback without that model is not used: in 1.10.1 it
    fails on every image with a face.

    Raises:
        InputError: the model is not there and cannot be downloaded, or OpenCV refuses it.
    """
    small = image.copy()
    small.thumbnail((_LARGEST_PX, _LARGEST_PX))
    try:
        autocrop = webui("textual_inversion.autocrop")
        with _download_lock:
            model = autocrop.download_and_cache_models()
        points = autocrop.image_face_points(small, autocrop.Settings(dnn_model_path=model))
    except Exception as error:  # the network and OpenCV raise whatever they like
        message = (
            f"The WebUI's face finder cannot be used ({type(error).__name__}). Choose focal, or let the WebUI download its model once."
        )
        raise InputError([Problem("data.crop", message)]) from error
    if not points:
        return None
    largest = max(points, key=lambda point: point.size)
    x, y = largest.x / small.width, largest.y / small.height
    return round(min(max(x, 0.0), 1.0), 2), round(min(max(y, 0.0), 1.0), 2)
