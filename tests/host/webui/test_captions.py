"""Captions by the WebUI's own interrogators, with stand-ins that have their members."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
import torch
from PIL import Image
from stub_webui import StubWebui

from lib_finetune.errors import HostError
from lib_finetune.host.webui.host import WebuiHost

PICTURE = Image.new("RGB", (32, 32), "red")


@pytest.fixture
def tagger(webui: StubWebui) -> types.SimpleNamespace:
    """As `modules.deepbooru.model`: tags escaped for prompts, and left on the device unless it is stopped."""
    calls: list[str] = []
    made = types.SimpleNamespace(calls=calls, start=lambda: calls.append("start"), stop=lambda: calls.append("stop"))

    def tag_multi(image: Any, force_disable_ranks: bool = False) -> str:
        assert force_disable_ranks and webui.lock._lock.locked()
        return r"red, paper \(object\)"

    made.tag_multi = tag_multi
    webui._add("modules.deepbooru", model=made)
    return made


class Interrogator:
    """As `modules.interrogate.InterrogateModels`."""

    running_on_cpu = False

    def __init__(self) -> None:
        self.blip_model: Any = None
        self.sent = 0

    def load_blip_model(self) -> torch.nn.Module:
        return torch.nn.Linear(2, 2)

    def generate_caption(self, image: Any) -> str:
        assert self.dtype == torch.float16
        return "a red square"

    def send_blip_to_ram(self) -> None:
        self.sent += 1

    dtype: Any = None


@pytest.fixture
def interrogator(webui: StubWebui) -> Interrogator:
    webui.shared.interrogator = Interrogator()
    webui.shared.cmd_opts.no_half = False
    webui.devices.device_interrogate = torch.device("cpu")
    return webui.shared.interrogator


def test_tags_are_written_as_they_are_read(host: WebuiHost, tagger: types.SimpleNamespace) -> None:
    assert host.captions.describe("deepbooru", PICTURE) == "red, paper (object)"
    assert tagger.calls == ["start", "stop"]


def test_a_sentence_of_blip_without_what_clip_adds(host: WebuiHost, interrogator: Interrogator) -> None:
    assert host.captions.describe("BLIP", PICTURE) == "a red square"
    model = interrogator.blip_model
    assert host.captions.describe("BLIP", PICTURE) == "a red square" and interrogator.blip_model is model and interrogator.sent == 2


def test_a_download_that_failed_is_said_in_words(host: WebuiHost, webui: StubWebui, interrogator: Interrogator) -> None:
    def load() -> Any:
        raise IndexError  # what `load_models` answers is empty then

    interrogator.load_blip_model = load  # type: ignore[method-assign]
    with pytest.raises(HostError, match="BLIP could not describe the images: its model is not there and could not be downloaded"):
        host.captions.describe("BLIP", PICTURE)
    assert not webui.lock._lock.locked()


def test_the_tagger_leaves_the_device_after_an_error(host: WebuiHost, tagger: types.SimpleNamespace) -> None:
    def fail(image: Any, force_disable_ranks: bool = False) -> str:
        raise RuntimeError("no")

    tagger.tag_multi = fail
    with pytest.raises(HostError, match="RuntimeError"):
        host.captions.describe("deepbooru", PICTURE)
    assert tagger.calls == ["start", "stop"]


def test_an_unknown_interrogator_is_named(host: WebuiHost, webui: StubWebui) -> None:
    assert list(host.captions.captioners()) == ["BLIP", "deepbooru"]
    with pytest.raises(HostError, match="'wd14'.*BLIP, deepbooru"):
        host.captions.describe("wd14", PICTURE)


@pytest.fixture
def wd14(webui: StubWebui, monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """As `tagger.utils` of stable-diffusion-webui-wd14-tagger: interrogators by name, listed when they are refreshed."""
    unloaded: list[str] = []

    class Tagger:
        def interrogate(self, image: Any) -> tuple[dict[str, float], dict[str, float]]:
            assert webui.lock._lock.locked()
            return {"general": 0.9}, {"long_hair": 0.5, "1girl": 0.99, "o_o": 0.4, "unlikely": 0.34}

        def unload(self) -> bool:
            unloaded.append("unload")
            return True

    utils = types.SimpleNamespace(interrogators={}, unloaded=unloaded)
    utils.refresh_interrogators = lambda: utils.interrogators.update({"wd14-vit.v2": Tagger()})
    monkeypatch.setitem(sys.modules, "tagger.utils", utils)  # type: ignore[arg-type]
    return utils


def test_the_wd14_tagger_is_listed_and_writes_likely_tags(host: WebuiHost, wd14: types.SimpleNamespace) -> None:
    assert list(host.captions.captioners()) == ["BLIP", "deepbooru", "WD14: wd14-vit.v2"]
    assert host.captions.describe("WD14: wd14-vit.v2", PICTURE) == "1girl, long hair, o_o"
    assert wd14.unloaded == ["unload"]


def test_another_module_of_that_name_and_a_broken_extension_list_nothing(
    host: WebuiHost, wd14: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    wd14.refresh_interrogators = lambda: 1 / 0
    assert list(host.captions.captioners()) == ["BLIP", "deepbooru"]
    monkeypatch.setitem(sys.modules, "tagger.utils", types.ModuleType("tagger.utils"))
    assert list(host.captions.captioners()) == ["BLIP", "deepbooru"]
