"""The clip skip of an image of ours: the WebUI's setting for that image only, whatever the person does with it meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lib_finetune.errors import HostError
from lib_finetune.host.webui.host import WebuiHost
from lib_finetune.ports.pictures import PictureRequest
from tests.host.webui.stub_webui import StubWebui

CAT = PictureRequest("a cat", clip_skip=2)


@pytest.fixture
def seen(webui: StubWebui) -> list[int]:
    found: list[int] = []
    webui.during_picture = lambda: found.append(webui.shared.opts.CLIP_stop_at_last_layers)
    return found


@pytest.mark.parametrize("stored", [{}, {"CLIP_stop_at_last_layers": 1}, {"CLIP_stop_at_last_layers": 4}, {"CLIP_stop_at_last_layers": 2}])
@pytest.mark.parametrize("frozen", [False, True])
def test_it_is_set_for_our_picture_and_put_back(
    host: WebuiHost, webui: StubWebui, seen: list[int], stored: dict[str, int], frozen: bool
) -> None:
    webui.shared.opts.data.update(stored)
    webui.shared.cmd_opts.freeze_settings = frozen
    before = dict(webui.shared.opts.data)
    host.remember()
    host.pictures.make(CAT)
    assert seen == [2] and webui.shared.opts.data == before and host.restoration().differences == ()


def test_without_one_it_is_the_persons(host: WebuiHost, webui: StubWebui, seen: list[int]) -> None:
    webui.shared.opts.data["CLIP_stop_at_last_layers"] = 3
    host.pictures.make(PictureRequest("a cat"))
    assert seen == [3]


def failing() -> None:
    raise ArithmeticError("a tensor with NaNs was produced in UNet")


@pytest.mark.parametrize("during", [failing])
def test_it_is_put_back_when_the_picture_fails(host: WebuiHost, webui: StubWebui, during: Callable[[], None]) -> None:
    webui.during_picture = during
    with pytest.raises(HostError):
        host.pictures.make(CAT)
    assert "CLIP_stop_at_last_layers" not in webui.shared.opts.data


def test_what_the_person_sets_meanwhile_stays(host: WebuiHost, webui: StubWebui) -> None:
    webui.during_picture = lambda: webui.shared.opts.data.update(CLIP_stop_at_last_layers=5)
    host.pictures.make(CAT)
    assert webui.shared.opts.data["CLIP_stop_at_last_layers"] == 5
