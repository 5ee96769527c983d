"""The form of all settings, made from the settings tree: label, help, unit, range and default come from there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from lib_finetune.config import codec
from lib_finetune.config.fields import Leaf, value_at
from lib_finetune.config.settings import METHODS, Settings
from lib_finetune.errors import Problem
from lib_finetune.ui.components import own

TOP = {
    "method": "method",
    "images": "data.images",
    "kind": "data.kind",
    "drawn": "data.drawn",
    "trigger": "data.trigger",
    "class_word": "data.class_word",
    "name": "name",
}
"""The first screen's settings, by the name of their component."""
ON_TOP = tuple(TOP.values())
KINDS = [("person", "person"), ("animal", "animal"), ("thing", "thing"), ("style", "style"), ("other", "")]
DRAWN = [("photo", "false"), ("drawn", "true"), ("not said", "")]
NO_WISH = "nothing in particular"
_WISHES = {
    NO_WISH: "",
    "the best likeness": "likeness",
    "subject with its style": "whole style",
    "a small file": "small file",
    "use on many models": "many models",
}
WISHES = list(_WISHES)
_SECTIONS = {
    "data": "Images and captions",
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


def wish_of(shown: str) -> str:
    """The wish as `advice` names it."""
    return _WISHES.get(shown, "")


def shown_parts(method: str) -> list[Any]:
    """Gradio updates for the parts of `OF_METHOD` when a method is chosen."""
    return [gr.update(visible=method in methods) for methods in OF_METHOD.values()]


def _component(leaf: Leaf) -> Any:
    about = leaf.about
    label = f"{about.label} ({about.unit})" if about.unit else about.label
    shared: dict[str, Any] = {"label": label, "info": about.help, "elem_id": _element(leaf.path)}
    allowed = about.allowed()
    applies = about.when is None or bool(about.when(Settings()))
    shared["visible"] = applies
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


def values_of(settings: Settings, paths: Sequence[str]) -> list[Any]:
    """What the components of the first screen and of ``paths`` show for settings, in that order."""
    return [_value(codec.all_leaves()[path], value_at(settings, path)) for path in (*ON_TOP, *paths)]


def _value(leaf: Leaf, value: Any) -> Any:
    if leaf.type is bool and not leaf.optional:
        return value
    return "" if value is None else _shown(value)


def conditional(paths: Sequence[str]) -> list[str]:
    """Those of the settings that do not always apply."""
    return [path for path in paths if codec.all_leaves()[path].about.when is not None]


def applying(settings: Settings, paths: Sequence[str]) -> list[bool]:
    """Whether each of these settings applies beside the others."""
    conditions = [codec.all_leaves()[path].about.when for path in paths]
    return [condition is None or bool(condition(settings)) for condition in conditions]


def defaults(paths: Sequence[str]) -> str:
    """What the components of these settings show at first, as JSON by component, for the page's script."""
    leaves = codec.all_leaves()
    return json.dumps({_element(path): {"path": path, "value": _value(leaves[path], leaves[path].default)} for path in paths})


def _element(path: str) -> str:
    return "finetune_" + path.replace(".", "_")


def numbers() -> list[str]:
    """Settings that a sweep can go over: all numbers and choices below the first screen."""
    leaves = codec.all_leaves().items()
    return [path for path, leaf in leaves if path not in ON_TOP and (leaf.type in (int, float) or leaf.about.allowed() is not None)]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def in_words(problem: Problem) -> str:
    """A problem under the label that the person sees."""
    leaf = codec.all_leaves().get(problem.field)
    return f"{leaf.about.label}: {problem.message}" if leaf else str(problem)


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
