"""The form of all settings, made from the settings tree: label, help, unit, range and default come from there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from lib_finetune.config import codec
from lib_finetune.config.aliases import ALIASES
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


@dataclass(frozen=True)
class Section:
    """A part of the settings: its name in element ids, its title, and the dotted paths that stand first in it."""

    name: str
    title: str
    paths: tuple[str, ...]


SECTIONS = (
    Section(
        "learning",
        "Learning",
        (
            *("training.steps", "optimizer.unet_rate", "optimizer.text_encoder_rate", "embedding.rate", "training.batch", "optimizer.name"),
            *("optimizer.schedule", "optimizer.warmup", "training.seed", "data.held_out", "training.validate_every", "training.ema_decay"),
        ),
    ),
    Section(
        "network",
        "Network",
        (
            *("network.rank", "network.alpha", "network.adapter", "network.text_encoder", "network.conv_rank", "network.conv_alpha"),
            *("network.dropout", "tuning.text_encoder_until", "tuning.lora_rank", "embedding.vectors", "embedding.init", "network.start"),
        ),
    ),
    Section(
        "captions",
        "Images and captions",
        (
            *("data.resolution", "data.crop", "data.buckets", "data.flip", "data.template", "embedding.template", "data.shuffle_tags"),
            *("data.keep_tags", "data.tag_dropout", "data.caption_dropout"),
        ),
    ),
    Section("preservation", "Preservation", ("objective.prior", "objective.prior_weight", "data.class_images", "data.class_count")),
    Section(
        "memory",
        "Memory and speed",
        (
            *("training.precision", "training.gradient_checkpointing", "training.accumulation", "data.disk_cache", "tuning.weights"),
            *("tuning.in_backward", "tuning.host_weights"),
        ),
    ),
    Section(
        "previews",
        "Previews",
        (
            *("preview.enabled", "preview.every", "preview.prompts", "preview.count", "preview.weight", "preview.seed", "preview.steps"),
            "preview.watch",
        ),
    ),
    Section(
        "saving",
        "Saving",
        ("saving.every_steps", "saving.every_epochs", "saving.keep", "saving.states", "saving.overwrite", "tuning.select"),
    ),
    Section("expert", "Expert", ()),
)
"""What stands in no list stands under the last of them: what a person with ten images never turns."""

_JOINT = " · "
_STEP = {"share": 0.05, "rank": 1.0, "images": 1.0}
_SLIDERS = ("network.rank", "network.dropout", "network.begin", "tuning.text_encoder_until", "embedding.until", "optimizer.warmup")
SLIDERS = (
    *_SLIDERS,
    *("data.tag_dropout", "data.caption_dropout", "training.batch", "preview.weight", "objective.prior_weight"),
)
"""Numbers with bounds that cannot be automatic; all others are texts, for gradio's own number field turns what it cannot read into nothing."""


def sections() -> dict[str, list[str]]:
    """Name of each section → paths of its settings; every setting below the first screen is in one of them."""
    listed = {path for section in SECTIONS for path in section.paths}
    rest = [path for path in codec.all_leaves() if path not in listed and path not in ON_TOP]
    return {section.name: [*section.paths, *(rest if section is SECTIONS[-1] else ())] for section in SECTIONS}


def more_settings() -> dict[str, Any]:
    """Components of every setting that is not on the first screen by dotted path; the page's script shows those of one section."""
    with gr.Column(elem_id="finetune_fields"):
        return {path: _component(codec.all_leaves()[path]) for paths in sections().values() for path in paths}


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


def _component(leaf: Leaf) -> Any:
    about = leaf.about
    label = f"{about.label} ({about.unit})" if about.unit else about.label
    shared: dict[str, Any] = {"label": label, "info": about.help, "elem_id": element(leaf.path)}
    allowed = about.allowed()
    component: Any
    if leaf.type is bool:
        component = gr.Checkbox(value=leaf.default, **shared)
    elif allowed is not None:
        component = gr.Dropdown([str(choice) for choice in allowed], value=str(leaf.default), **shared)
    elif leaf.path in SLIDERS:
        component = gr.Slider(about.low, about.high, leaf.default, step=_STEP.get(about.unit, 0.05), **shared)
    else:
        shown = "" if leaf.default is None else _shown(leaf.default)
        component = gr.Textbox(value=shown, placeholder="auto" if leaf.optional else "", max_lines=1, **shared)
    return own(component)


def values_of(settings: Settings, paths: Sequence[str]) -> list[Any]:
    """What the components of the first screen and of ``paths`` show for settings, in that order."""
    return [_value(codec.all_leaves()[path], value_at(settings, path)) for path in (*ON_TOP, *paths)]


def _value(leaf: Leaf, value: Any) -> Any:
    if (leaf.type is bool and not leaf.optional) or leaf.path in SLIDERS:
        return value
    return "" if value is None else _shown(value)


def field_facts() -> str:
    """What the page's script has to know of each setting's field, as JSON by element id.

    "path", "section", "label", "value" that it shows at first, "aliases" in other trainers, and "number" for what is typed with a keyboard of figures.
    """
    leaves, section_of = codec.all_leaves(), {path: name for name, paths in sections().items() for path in paths}
    facts = {
        element(path): {
            "path": path,
            "section": section_of[path],
            "label": leaves[path].about.label,
            "value": _value(leaves[path], leaves[path].default),
            "aliases": " ".join(ALIASES.get(path, ())),
            "number": leaves[path].type in (int, float),
        }
        for path in section_of
    }
    return json.dumps(facts)


def element(path: str) -> str:
    """Element id of a setting's field, on the first screen too."""
    name = next((name for name, top in TOP.items() if top == path), path.replace(".", "_"))
    return f"finetune_{name}"


def swept() -> list[str]:
    """Label and path (`swept_path`) of what a sweep can go over: all numbers and choices below the first screen, section by section."""
    leaves = codec.all_leaves()
    paths = [path for paths in sections().values() for path in paths]
    able = [path for path in paths if leaves[path].type in (int, float) or leaves[path].about.allowed() is not None]
    return [f"{leaves[path].about.label}{_JOINT}{path}" for path in able]


def swept_path(shown: str) -> str:
    """The path of what `swept` shows; a path alone stays as it is. gradio's list of choices has no values apart from what is shown."""
    return shown.rpartition(_JOINT)[2]


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
