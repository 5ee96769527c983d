"""An image's words: where its caption comes from, and how it is varied from step to step."""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Collection
from typing import Protocol

from lib_finetune.data import caption_syntax

_PLACES = {
    "{trigger}": "trigger",
    "{name}": "trigger",
    "[name]": "trigger",
    "{class}": "class",
    "{caption}": "caption",
    "[filewords]": "caption",
}
"""Place for a word in a template, ours or the WebUI's own → which word it takes."""
_PLACE = re.compile("|".join(map(re.escape, _PLACES)))


class Captioned(Protocol):
    """What a caption is made from: the text of the file beside an image, or the words of its kohya folder."""

    @property
    def caption(self) -> str | None:
        """Text of the file beside the image, as `caption_syntax.tidied` gives it; None without one."""

    @property
    def folder_words(self) -> str | None:
        """Words of the kohya folder; None outside of one."""


def compose(
    caption: str,
    *,
    trigger: str = "",
    keep_tags: int = 0,
    shuffle: bool = False,
    tag_dropout: float = 0.0,
    caption_dropout: float = 0.0,
    rng: random.Random,
) -> str:
    """One step's variant of a caption. Tags are its parts between commas.

    A tag that holds the trigger word counts as kept wherever it stands: it is never dropped, and where tags are shuffled it
    moves in front, behind the first ``keep_tags``. Only caption dropout, which empties the whole caption on purpose,
    takes the trigger away.

    Args:
        keep_tags: so many leading tags stay in place and are never dropped.
        tag_dropout, caption_dropout: chances, 0..1.
        rng: the only source of chance; the caller seeds it.
    """
    if caption_dropout > 0.0 and rng.random() < caption_dropout:
        return ""
    if not shuffle and tag_dropout <= 0.0:
        return caption
    trigger_parts = _tags(trigger)
    parts: list[tuple[int, str]] = []
    loose: list[tuple[int, str]] = []
    for place, tag in enumerate(_tags(caption)):
        stays = place < keep_tags or any(contains_word(tag, part) for part in trigger_parts)
        (parts if stays else loose).append((place, tag))
    if shuffle:
        rng.shuffle(loose)
    loose = [tag for tag in loose if rng.random() >= tag_dropout]
    tags = parts + loose if shuffle else sorted(parts + loose)
    return ", ".join(tag for _, tag in tags)


def contains_word(text: str, word: str) -> bool:
    """Whether a word (or words) stands in a text as a whole; letter case, the width of spaces and how accents are made up do not
    matter, as with CLIP."""
    return bool(word.strip()) and _word(word).search(_composed(text)) is not None


def up_to_word(text: str, word: str) -> str | None:
    """The text to the end of the first place where a word (or words) stands in it as a whole; None where it does not."""
    match = _word(word).search(_composed(text)) if word.strip() else None
    return _composed(text)[: match.end()] if match else None


def template_caption(template: str, trigger: str, class_word: str, own: str = "") -> str:
    """Fill the words into a template; an empty one leaves no double space and no stray comma.

    Args:
        template: with ``{trigger}``, ``{class}`` and ``{caption}``; ``[name]`` and ``[filewords]`` are the WebUI's for the first and the last.
        own: the image's own caption.
    """
    words = {"trigger": trigger, "class": class_word, "caption": own}
    text = _PLACE.sub(lambda match: words[_PLACES[match.group()]], template)
    return ", ".join(_tags(text))


def has_places(template: str) -> bool:
    """Whether a template has a place for any word."""
    return _PLACE.search(template) is not None


def holds_caption(template: str) -> bool:
    """Whether the image's own caption has a place in a template."""
    return any(_PLACES[place] == "caption" for place in _PLACE.findall(template))


def own_caption(picture: Captioned, rng: random.Random | None = None) -> str | None:
    """The caption in the file beside an image; None without one.

    Args:
        rng: draws one of its alternatives; without it the first is taken.
    """
    if picture.caption is None:
        return None
    reading = caption_syntax.read(picture.caption)
    return reading.pick(rng) if rng else reading.first


def filled(caption: str, trigger: str, class_word: str) -> str:
    """A caption from a file with trigger and class word in the places it has for them; without such a place it stays as it is."""
    return template_caption(caption, trigger, class_word) if _PLACE.search(caption) else caption


def final_caption(picture: Captioned, template: str, trigger: str, class_word: str, rng: random.Random | None = None) -> str:
    """The caption that an image is trained with, before `compose` varies it.

    The file beside the image goes first, unless the template has a place for what it says; without one, the template, filled with the
    words of its kohya folder, else with trigger and class word. A trigger of its subject that the caption does not hold as a word is put
    in front.

    Args:
        rng: as of `own_caption`.
    """
    return with_trigger(plain_caption(picture, template, trigger, class_word, rng), subject_of(picture, trigger, class_word)[0])


def plain_caption(picture: Captioned, template: str, trigger: str, class_word: str, rng: random.Random | None = None) -> str:
    """`final_caption` before a missing trigger is put in front."""
    own = own_caption(picture, rng)
    words = subject_of(picture, trigger, class_word)
    return around(None if own is None else filled(own, *words), picture.folder_words, template, trigger, class_word)


def around(own: str | None, folder_words: str | None, template: str, trigger: str, class_word: str) -> str:
    """An image's ``own`` caption, or the template filled for it; see `final_caption`."""
    if own is not None and not holds_caption(template):
        return own
    own = own or ""
    if not folder_words or _same(folder_words, trigger) or _same(folder_words, class_word):
        return template_caption(template, trigger, class_word, own)
    if "{class}" in template:
        return template_caption(template, "", folder_words, own)
    return template_caption(template, folder_words, "", own)


def subject_of(picture: Captioned, trigger: str, class_word: str, own_labels: Collection[str] = ()) -> tuple[str, str]:
    """(trigger, class word) of what an image shows: those of the settings, or of a kohya folder with words of its own ("5_abc dog").

    A folder is the settings' own when its words hold the trigger, are the class word, or are among ``own_labels``. One word alone
    ("10_face") is a label for captions that are filled in; it names no subject if a text file describes the image.
    """
    words = picture.folder_words
    if not words or not (trigger or class_word) or words in own_labels:
        return trigger, class_word
    if contains_word(words, trigger) or _same(words, class_word) or (picture.caption is not None and len(words.split()) == 1):
        return trigger, class_word
    return parted(words)


def parted(words: str) -> tuple[str, str]:
    """The words of a kohya folder, "name class", as trigger and class word."""
    first, _, rest = words.partition(" ")
    return first, rest


def _same(words: str, others: str) -> bool:
    return _composed(words).casefold().split() == _composed(others).casefold().split()


def with_trigger(caption: str, trigger: str) -> str:
    """The caption with the trigger in front, unless it holds it already."""
    trigger = trigger.strip()
    if not trigger or contains_word(caption, trigger):
        return caption
    return f"{trigger}, {caption}" if caption else trigger


def class_version(caption: str, trigger: str, class_word: str, otherwise: str) -> str:
    """The caption as it describes the class: without the trigger, which the class word replaces if the caption lacks it.

    Args:
        otherwise: the text to return for a caption without the trigger.
    """
    if not trigger or not contains_word(caption, trigger):
        return otherwise
    instead = "" if contains_word(caption, class_word) else class_word
    return ", ".join(_tags(_word(trigger).sub(lambda _: instead, _composed(caption)))) or otherwise


def _word(word: str) -> re.Pattern[str]:
    pattern = r"\s+".join(re.escape(part) for part in _composed(word).split())
    return re.compile(rf"(?<!\w){pattern}(?!\w)", re.IGNORECASE)


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _tags(text: str) -> list[str]:
    return [" ".join(tag.split()) for tag in text.split(",") if tag.strip()]
