"""The place of a face, by a stand-in with the members of `modules.textual_inversion.autocrop`."""

from __future__ import annotations

import types
from typing import Any

import pytest
from PIL import Image
from stub_webui import StubWebui

from lib_finetune.errors import InputError
from lib_finetune.host.webui.host import WebuiHost


@pytest.fixture
def autocrop(webui: StubWebui) -> types.ModuleType:
    def points(image: Any, settings: Any) -> list[Any]:
        assert settings.dnn_model_path == "yunet.onnx" and max(image.size) <= 1024
        places = [(0.1, 0.1, 20), (0.75, 0.25, 90)] if image.getpixel((0, 0)) == (255, 0, 0) else []
        return [types.SimpleNamespace(x=x * image.width, y=y * image.height, size=size) for x, y, size in places]

    return webui._add(
        "modules.textual_inversion.autocrop",
        download_and_cache_models=lambda: "yunet.onnx",
        image_face_points=points,
        Settings=lambda dnn_model_path: types.SimpleNamespace(dnn_model_path=dnn_model_path),
    )


def test_the_largest_face_is_told(host: WebuiHost, autocrop: types.ModuleType) -> None:
    picture = Image.new("RGB", (2000, 1000), "red")
    assert host.captions.face(picture) == (0.75, 0.25) and picture.size == (2000, 1000)
    assert host.captions.face(Image.new("RGB", (200, 100), "blue")) is None


def test_a_download_that_fails_is_said_with_what_to_choose(host: WebuiHost, autocrop: types.ModuleType) -> None:
    def fail() -> str:
        raise ConnectionError("no network")

    autocrop.download_and_cache_models = fail  # type: ignore[attr-defined]
    with pytest.raises(InputError) as caught:
        host.captions.face(Image.new("RGB", (20, 20)))
    assert caught.value.problems[0].field == "data.crop" and "ConnectionError" in str(caught.value) and "focal" in str(caught.value)
