"""The templates of captions: the person's own, else those that suit what the training images show."""

from __future__ import annotations

from lib_finetune.config.settings import DEFAULT_TEMPLATE, Settings

_DRAWN_TEMPLATE = "a drawing of {trigger} {class}"
_STYLE_TEMPLATE = "a picture in the style of {trigger}"


def caption_template(settings: Settings) -> str:
    """The template of captions: the person's own, else that of what the training images show."""
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
