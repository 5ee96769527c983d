"""Captions: from file, folder or template; shuffled, thinned out or left away on purpose, with the trigger word safe."""

from __future__ import annotations

import random
import re

from lib_finetune.data.scan import Picture


def template_caption(template: str, trigger: str, class_word: str) -> str:
    """Fill ``{trigger}`` and ``{class}`` in; what is empty leaves no gap."""
    text = template.replace("{trigger}", trigger).replace("{class}", class_word)
    return re.sub(r"\s+([,.])", r"\1", " ".join(text.split())).strip(" ,")


def final_caption(picture: Picture, template: str, trigger: str, class_word: str) -> str:
    """The whole caption of a picture before shuffling and dropout.

    A caption file's text comes first, then the words of a kohya folder when neither trigger nor class word is set, then the
    template. A caption file that lacks the trigger word gets it in front.
    """
    if picture.caption is not None:
        return with_trigger(picture.caption, trigger)
    if picture.folder_words and not trigger and not class_word:
        return picture.folder_words
    return template_caption(template, trigger, class_word)


def with_trigger(caption: str, trigger: str) -> str:
    """The caption with the trigger word in front, unless it holds it already."""
    if not trigger or holds(caption, trigger):
        return caption
    return f"{trigger}, {caption}" if caption else trigger


def holds(caption: str, trigger: str) -> bool:
    """Whether the trigger stands in the caption as a word of its own, in any case."""
    return re.search(rf"(?<!\w){re.escape(trigger)}(?!\w)", caption, re.IGNORECASE) is not None


def compose(
    caption: str, *, trigger: str, keep_tags: int, shuffle: bool, tag_dropout: float, caption_dropout: float, rng: random.Random
) -> str:
    """One showing's caption.

    Args:
        keep_tags: leading tags that stay in front; the tag with the trigger word joins them.
        shuffle: new order of the others.
        tag_dropout: chance of leaving out each of the others.
        caption_dropout: chance of an empty caption, trigger and all.
    """
    # All draws are made always, so that one option does not change another's luck.
    emptied = rng.random() < caption_dropout
    if shuffle or tag_dropout:
        tags = [tag.strip() for tag in caption.split(",") if tag.strip()]
        kept = [tag for place, tag in enumerate(tags) if place < keep_tags or (trigger and holds(tag, trigger))]
        others = [tag for place, tag in enumerate(tags) if place >= keep_tags and not (trigger and holds(tag, trigger))]
        others = [tag for tag in others if rng.random() >= tag_dropout]
        if shuffle:
            rng.shuffle(others)
        caption = ", ".join([*kept, *others])
    return "" if emptied else caption
