from __future__ import annotations

from pathlib import Path

import pytest
from stub_webui import StubWebui

from lib_finetune.host.webui.host import WebuiHost


@pytest.fixture
def webui(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StubWebui:
    return StubWebui(tmp_path, monkeypatch)


@pytest.fixture
def host(webui: StubWebui) -> WebuiHost:
    return WebuiHost()
