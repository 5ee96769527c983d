"""The tags of captions, or the words and phrases of those that are sentences: counted, and changed in a caption's text."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lib_finetune.data.caption_syntax import is_comment, tidied

HOW = ("front", "behind", "replace", "remove")
_WORDS_IN_TAG = 3.0
"""More on average between two commas make captions sentences."""
_LONGEST = 3
_SHOWN = 400
_SMALL = {
    "a", "an", "and", "are", "as", "at", "be", "behind", "but", "by", "for", "from", "has", "have", "he", "her", "his", "in", "into",
    "is", "it", "its", "near", "next", "of", "off", "on", "or", "over", "she", "that", "the", "their", "there", "they", "this", "to",
    "under", "up", "was", "were", "which", "while", "who", "with",
}  # fmt: skip
"""Words that say nothing of what an image shows."""


@dataclass(frozen=True)
class CaptionChange:
    """One change to captions.

    Attributes:
        how: one of `HOW`.
        text: what is added, replaced or removed.
        instead: what comes in its place.
        sentences: whether words inside a text are replaced and removed, too, and not whole tags alone.
    """

    how: str
    text: str
    instead: str = ""
    sentences: bool = False

    def applied(self, caption: str) -> str:
        """A caption's text after it, each of its lines; notes to oneself stay as they are."""
        return tidied("\n".join(line if is_comment(line) else self._line(line) for line in tidied(caption).split("\n")))

    def _line(self, line: str) -> str:
        tags = _tags(line)
        known = {_same(tag) for tag in tags}
        added = [tag for tag in _tags(self.text) if _same(tag) not in known]
        if self.how in ("front", "behind"):
            return ", ".join([*added, *tags] if self.how == "front" else [*tags, *added]) if added else line
        if _same(self.text) in known:
            return self._in_place(tags)
        return self._within(line) if self.sentences else line

    def _in_place(self, tags: Sequence[str]) -> str:
        others = {_same(tag) for tag in tags} - {_same(self.text)}
        changed: list[str] = []
        for tag in tags:
            if _same(tag) != _same(self.text):
                changed.append(tag)
            elif self.how == "replace":
                changed += [new for new in _tags(self.instead) if _same(new) not in others and new not in changed]
        return ", ".join(changed)

    def _within(self, line: str) -> str:
        words = r"\s+".join(map(re.escape, self.text.split()))
        if not words:
            return line
        put = self.instead.strip() if self.how == "replace" else ""
        changed = re.sub(rf"(?<!\w){words}(?!\w)", lambda _: put, line, flags=re.IGNORECASE)
        return line if changed == line else re.sub(r"\s+([,.;:!?])", r"\1", ", ".join(_tags(changed)))


def are_sentences(captions: Sequence[str]) -> bool:
    """Whether captions are sentences more than tags between commas."""
    tags = [tag for caption in captions for line in _lines(caption) for tag in _tags(line)]
    return bool(tags) and sum(len(tag.split()) for tag in tags) / len(tags) > _WORDS_IN_TAG


def counts(captions: Sequence[str]) -> list[tuple[str, int]]:
    """Each tag, as it is written most often, with the number of captions that have it; most frequent first, then as they come.

    Of sentences: their words, and phrases of up to three words that several have; small words count in the middle of a phrase alone.
    """
    parts = _phrases if are_sentences(captions) else _tags_of
    number: Counter[str] = Counter()
    written: dict[str, Counter[str]] = {}
    for caption in captions:
        own = {_same(part): part for part in parts(caption)}
        number.update(own.keys())
        for key, part in own.items():
            written.setdefault(key, Counter())[part] += 1
    shown = [(key, count) for key, count in number.items() if count > 1 or " " not in key or parts is _tags_of]
    if parts is _phrases:  # a word that only comes in one phrase is said by the phrase
        shown = [
            (key, count)
            for key, count in shown
            if not any(count == other and key != longer and f" {key} " in f" {longer} " for longer, other in shown)
        ]
    return [(written[key].most_common(1)[0][0], count) for key, count in sorted(shown, key=lambda pair: -pair[1])[:_SHOWN]]


def _tags_of(caption: str) -> list[str]:
    return [tag for line in _lines(caption) for tag in _tags(line)]


def _phrases(caption: str) -> list[str]:
    """Words, and runs of words between signs, of a caption."""
    phrases = []
    for line in _lines(caption):
        for run in re.split(r"[,.;:!?()\[\]{}\"|]+", line):
            words = run.split()
            for size in range(1, _LONGEST + 1):
                for first in range(len(words) - size + 1):
                    some = words[first : first + size]
                    if some[0].casefold() not in _SMALL and some[-1].casefold() not in _SMALL:
                        phrases.append(" ".join(some))
    return phrases


def _lines(caption: str) -> list[str]:
    return [line for line in tidied(caption).split("\n") if line and not is_comment(line)]


def _tags(text: str) -> list[str]:
    return [" ".join(tag.split()) for tag in text.split(",") if tag.strip()]


def _same(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())
