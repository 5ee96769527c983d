"""The form of all settings, made from the settings tree: label, help, unit, range and default come from there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from lib_finetune.config import codec
from lib_finetune.config.fields import Leaf
from lib_finetune.config.settings import METHODS, Settings
from lib_finetune.errors import Problem

ON_TOP = ("method", "data.images", "data.trigger", "data.class_word", "name")
_SECTIONS = {
    "data": "Pictures and captions",
    "network": "Network",
    "tuning": "The whole model",
    "embedding": "Embedding",
    "optimizer": "Learning",
    "objective": "Objective",
    "training": "Training",
    "saving": "Saving",
    "preview": "Preview",
}


_PATCHES, _WORDS = ("lora", "pivotal_tuning"), ("textual_inversion", "pivotal_tuning")
OF_METHOD = {"network": _PATCHES, "tuning": ("dreambooth",), "embedding": _WORDS}
"""Sections that some methods alone read."""


def more_settings() -> tuple[dict[str, Any], dict[str, Any]]:
    """(components of every setting that is not on the first screen by dotted path, the parts of `OF_METHOD` by section)."""
    components: dict[str, Any] = {}
    parts: dict[str, Any] = {}
    for section, title in _SECTIONS.items():
        shown = METHODS[0] in OF_METHOD.get(section, METHODS)
        with gr.Accordion(title, open=False, elem_id=f"finetune_section_{section}", visible=shown) as part:
            for path, leaf in codec.all_leaves().items():
                if path.startswith(section + ".") and path not in ON_TOP:
                    components[path] = _component(leaf)
        if section in OF_METHOD:
            parts[section] = own(part)
    return components, parts


def method_choices() -> list[tuple[str, str]]:
    """(what the person reads, value) for each method."""
    titles = {
        "lora": "LoRA",
        "dreambooth": "DreamBooth",
        "textual_inversion": "Textual Inversion",
        "pivotal_tuning": "LoRA with a word of its own (pivotal tuning)",
    }
    return [(titles[method], method) for method in METHODS]


def shown_parts(method: str) -> list[Any]:
    """Gradio updates for the parts of `OF_METHOD` when a method is chosen."""
    return [gr.update(visible=method in wanted) for wanted in OF_METHOD.values()]


def _component(leaf: Leaf) -> Any:
    about = leaf.about
    label = f"{about.label} ({about.unit})" if about.unit else about.label
    shared = {"label": label, "info": about.help, "elem_id": "finetune_" + leaf.path.replace(".", "_")}
    allowed = about.allowed()
    component: Any
    if leaf.type is bool:
        component = gr.Checkbox(value=leaf.default, **shared)
    elif allowed is not None:
        component = gr.Dropdown([str(choice) for choice in allowed], value=str(leaf.default), **shared)
    else:
        # Numbers are texts here: gradio's own number field turns what it cannot read into nothing, without a word.
        shown = "" if leaf.default is None else _shown(leaf.default)
        component = gr.Textbox(value=shown, placeholder="automatic" if leaf.optional else "", max_lines=1, **shared)
    return own(component)


def _shown(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def in_words(problem: Problem) -> str:
    """A problem under the label that the person sees."""
    leaf = codec.all_leaves().get(problem.field)
    return f"{leaf.about.label}: {problem.message}" if leaf else str(problem)


def own(component: Any) -> Any:
    """Keep a component out of the WebUI's ui-config.json, whose stored values would override new defaults for ever."""
    component.do_not_save_to_config = True
    return component


def settings_from(paths: Sequence[str], values: Sequence[Any], top: Mapping[str, str]) -> Settings:
    """Settings from what the form holds.

    Args:
        paths, values: of `more_settings`, in one order.
        top: the first screen's settings.

    Raises:
        InputError: everything that cannot be read, by field.
    """
    pairs = [*top.items(), *((path, str(value)) for path, value in zip(paths, values, strict=True))]
    return codec.with_values(Settings(), [(path, text.strip()) for path, text in pairs])
