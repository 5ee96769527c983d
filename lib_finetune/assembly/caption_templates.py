"""The templates of captions: the person's own, else those that suit what the training images show."""

from __future__ import annotations

from collections.abc import Sequence

from lib_finetune.config.settings import DEFAULT_TEMPLATE, Settings
from lib_finetune.data.templates import plain

_DRAWN_TEMPLATE = "a drawing of {trigger} {class}"
_STYLE_TEMPLATE = "a picture in the style of {trigger}"


def caption_template(settings: Settings) -> str:
    """The template that captions are made with: `written_template`, with what it has of a prompt's signs read as in captions."""
    return plain(written_template(settings))


def written_template(settings: Settings) -> str:
    """The template of captions: the person's own, as it is written, else that of what the training images show."""
    if settings.data.template != DEFAULT_TEMPLATE:
        return settings.data.template
    if settings.data.kind == "style":
        return _STYLE_TEMPLATE
    return _DRAWN_TEMPLATE if _draws(settings) else DEFAULT_TEMPLATE


def class_template(settings: Settings) -> str:
    """The template of the class's captions; that of a style without its word would end in mid-sentence."""
    template = caption_template(settings)
    return "{class}" if template == _STYLE_TEMPLATE else template


def word_templates(settings: Settings) -> str:
    """The templates of a word that is taught, by name or file: the person's own, else those of what the training images show."""
    if settings.embedding.template:
        return settings.embedding.template
    if settings.data.kind == "style":
        return "style"
    return "drawn" if _draws(settings) else "subject"


def _draws(settings: Settings) -> bool:
    return settings.data.kind == "person" and bool(settings.data.drawn)


def template_notes(settings: Settings, templates: Sequence[str]) -> list[str]:
    """What is said of templates that are written as prompts are.

    Args:
        templates: those around a word that is taught, as they are written.
    """
    notes, written = [], written_template(settings)
    if (read := plain(written)) != written and not templates:
        notes.append(f'The caption template is read as a caption is, without a prompt\'s signs: "{read}".')
    changed = [template for template in templates if plain(template) != template]
    if changed:
        notes.append(
            f'Templates that are read as captions are, without a prompt\'s signs: {len(changed)} of {len(templates)}, first "{plain(changed[0])}".'
        )
    return notes
