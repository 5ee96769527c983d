"""The forms of the tools: what they ask for is what the actions read, and what became of a tool stands there."""

import re

import pytest

from lib_finetune.config.settings import Settings
from lib_finetune.ui import actions, tool_forms
from lib_finetune.ui.actions import Press

EVIL = '"><script>alert(1)</script>'
TASK = {"id": "t", "kind": "extract", "about": EVIL, "state": "running", "done": 3, "total": 12, "message": EVIL, "result": {}}


def test_every_field_of_a_form_is_read_and_nothing_else(monkeypatch, services):
    forms = re.findall(r'<form.*?data-tool="(\w+)".*?</form>', tool_forms.forms(), re.DOTALL)
    assert forms == ["extract", "resize"]
    for tool, form in zip(forms, tool_forms.forms().split("<form")[1:], strict=True):
        fields = set(re.findall(r'data-field="(\w+)"', form))
        read = set()

        class Watched(dict):
            def get(self, name, default=None, read=read):
                read.add(name)
                return super().get(name, default)

        assert actions.act(tool, Press(services, {}, Watched(), Settings)).message == ""
        assert read == fields


def test_what_is_wrong_is_kept_for_its_form_until_the_tool_is_asked_again(services, monkeypatch):
    page = {}
    actions.act("resize", Press(services, page, {"rank": "0", "lora": ""}, Settings))
    assert {field for field, _ in page["tool_problems"]["resize"]} == {"lora", "rank", "precision"}
    shown = tool_forms.state(None, page["tool_problems"]["resize"])
    assert 'data-wrong="rank"' in shown and "<b>Rank, at most: </b>" in shown
    monkeypatch.setattr(services.lora_tools, "resize", lambda *_, **__: services.jobs.tasks.add("resize", lambda _: {}, "cat.safetensors"))
    change = actions.act("resize", Press(services, page, {}, Settings))
    assert page["tool_problems"] == {} and change.message == "cat.safetensors is made before the next training begins."


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "3 of 12 layers are compared"),
        ({"total": 0}, "waits for its turn"),
        ({"state": "failed"}, "alert(1)"),
        ({"state": "stopped"}, "no file was written"),
        ({"state": "done", "result": {"file": "d.safetensors", "bytes": 12_000_000, "lines": [EVIL]}}, "&lt;lora:d:1&gt;"),
    ],
)
def test_each_state_says_how_it_stands_and_what_is_typed_stays_text(more, said):
    shown = tool_forms.state({**TASK, **more}, ())
    assert said in shown and "<script>" not in shown
    assert ("stop task" in shown) is (more.get("state") is None)


def test_names_of_files_stay_text_and_are_proposed(tab, services):
    shown = tool_forms.answers({"extract": "x"}, {"checkpoint": [EVIL], "lora": ["a.safetensors"]})
    assert "<script>" not in shown and '<option value="a.safetensors">' in shown and 'data-answer="extract"' in shown
    services.host.paths.lora.mkdir(parents=True)
    (services.host.paths.lora / "mine.safetensors").write_bytes(b"x")
    assert "mine.safetensors" in tab.tools.html({})
