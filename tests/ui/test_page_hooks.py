"""What the page's script presses is there under the names that it knows."""

import re
from pathlib import Path

import pytest

gr = pytest.importorskip("gradio", reason="gradio belongs to the WebUI's library set")
SCRIPT = Path(__file__).resolve().parents[2] / "javascript" / "finetune.js"


def test_every_part_that_the_script_asks_for_is_there(tab):
    asked = set(re.findall(r'\bpart\("(\w+)"\)', SCRIPT.read_text(encoding="utf-8")))
    there = {block.elem_id for block in tab.build().blocks.values()}
    assert len(asked) > 5 and {name for name in asked if f"finetune_{name}" not in there} == set()


def test_each_page_has_a_state_of_its_own():
    from lib_finetune.ui import page_hooks

    with gr.Blocks():
        hooks = page_hooks.build()
    assert hooks.page.value == {} and not any(part.visible for part in (hooks.act, hooks.refresh, hooks.look, hooks.first, hooks.action))
