"""What the signs in a caption mean: lines, backslashes, weights, choices, and what is left out.

Captions come from many tools, and most of them write prompts. Each sign has one meaning here, and `MEANINGS` says it:

- several lines are alternatives, one of them each time the image comes; blank lines count for nothing;
- a backslash makes the letter behind it plain, as in the WebUI's prompt;
- ``(a:1.2)``, ``((a))``, ``[a]`` and ``{a}`` are weights: the words are read, the weight is not. A plain ``(…)`` behind other words of
  its tag is part of a name, as in ``saber (fate)``, and stays as it is; in front of a tag it is a weight;
- ``{a|b}``, ``[a|b]`` and ``[a:b:0.5]`` are alternatives, one of them each time; ``{3::a|b}`` makes the first three times as likely;
- ``__name__`` and ``<lora:name:1>`` name what is not there, and are left out;
- ``BREAK`` and ``AND``, not among other words in capitals, ``|||`` and ``;;;`` are read as commas;
- of the WebUI's notes on a generated image the prompt is read.
"""

from __future__ import annotations

import itertools
import random
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from lib_finetune.text.extra_networks import TAG

MEANINGS = {
    "lines": ("Captions of several lines", "One of the lines is read each time."),
    "escapes": ("Captions with backslashes", "The letter behind a backslash is read as it is, as in the WebUI's prompt."),
    "weights": ("Captions with weights such as (a:1.2) or [a]", "The words are read, the weights are not."),
    "names": ("Captions with brackets behind a name, as in saber (fate)", "The brackets of a name are read as they are."),
    "choices": ("Captions with a choice such as {a|b} or [a:b:0.5]", "One part of a choice is read each time."),
    "wildcards": ("Captions that name a wildcard file, such as __colour__", "The name of a wildcard file is left out."),
    "networks": ("Captions that name an extra network, such as <lora:name:1>", "The name of an extra network is left out."),
    "breaks": ("Captions with BREAK or AND", "BREAK and AND are read as commas."),
    "separators": ("Captions with ||| or ;;; between tags", "They are read as commas; data.keep_tags says how many tags stay in front."),
    "comments": ('Captions with lines that begin with "# "', 'Lines that begin with "# " are left out.'),
    "notes": ("Captions that are the WebUI's generation parameters", "Only the prompt is read from them."),
}
"""Kind of sign → which captions have it, and what happens to it."""
_KEPT = 20_000
_MOST_VARIANTS = 64
_SIGNS = re.compile(r"[\\()\[\]{}<>\n]|^#|__|\|\|\||;;;|\b(?:BREAK|AND)\b|^Steps: ")
_PAIRS = {"(": ")", "[": "]", "{": "}"}
_CLOSING = frozenset(_PAIRS.values())
_DEEPEST = 30
"""Nobody nests brackets deeper than this on purpose: deeper ones are read as plain letters."""
_PLAIN = 0xF0000
"""Private code points for letters behind a backslash, while signs are looked for."""
_UNSEEN = re.compile(r"[\0-\x08\x0e-\x1b\x7f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
"""Control characters, soft hyphens, spaces without width and marks of direction; what joins signs (U+200C, U+200D) changes how they look."""
_WILDCARD = re.compile(r"(?<!\w)__(?=[^\W_]|\*)[\w/*.-]*?__(?!\w)")
_SEPARATOR = re.compile(r"\|\|\||;;;+")
_KEYWORD = re.compile(r"\b(?:BREAK|AND)\b")
_WEIGHT = re.compile(r"(.*):\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*", re.DOTALL)
_SHARE = re.compile(r"\s*(\d+\.?\d*|\.\d+)::(.*)", re.DOTALL)
_COUNT = re.compile(r"\s*\d*(?:-\d*)?\$\$(?:[^$|]*\$\$)?")
_PARAMETERS = re.compile(r"Steps: \d+, .*\b(?:Sampler|CFG scale|Seed): ")
_BEHIND_PROMPT = re.compile(r"(?P<negative>Negative prompt:)|" + _PARAMETERS.pattern)
_PLACES = ("trigger", "class", "name", "caption")


@dataclass(frozen=True)
class Alternatives:
    """Alternatives, of which each time one is taken.

    Attributes:
        options: the parts of each.
        shares: how likely each is, relative to the others.
    """

    options: tuple[Parts, ...]
    shares: tuple[float, ...]


Parts = tuple[str | Alternatives, ...]


@dataclass(frozen=True)
class Reading:
    """What the text of a caption file says.

    Attributes:
        kinds: of signs in it, keys of `MEANINGS`.
        varies: whether its words change from one time to the next.
    """

    kinds: frozenset[str]
    varies: bool
    _lines: tuple[tuple[Parts, bool], ...]
    """Each line, and whether it has signs; a line without signs is read as plain letters."""

    @property
    def first(self) -> str:
        """The first of its possible texts."""
        return self.every()[0]

    def pick(self, rng: random.Random) -> str:
        """One of its possible texts, drawn."""
        parts, signs = rng.choice(self._lines) if len(self._lines) > 1 else self._lines[0]
        return _finished(_picked(parts, rng), signs)

    def every(self) -> list[str]:
        """All its possible texts; where a line has very many, only the first of them."""
        return list(dict.fromkeys(_finished(text, signs) for parts, signs in self._lines for text in _variants(parts)))


def tidied(text: str) -> str:
    """The text with one space between words, without blank lines and signs that nobody sees, its letters composed (NFC)."""
    lines = (" ".join(line.split()) for line in _UNSEEN.sub("", text).replace("\r", "\n").split("\n"))
    return unicodedata.normalize("NFC", "\n".join(line for line in lines if line))


def is_comment(line: str) -> bool:
    """Whether a line is a note to oneself; "#cat" is a tag."""
    return line == "#" or line.startswith("# ")


@lru_cache(maxsize=_KEPT)
def read(text: str) -> Reading:
    """What a caption file's text says."""
    if not _SIGNS.search(text):
        return Reading(frozenset(), False, (((text,), False),))
    kinds: set[str] = set()
    lines = []
    for line in _lines(text, kinds):
        own: set[str] = set()
        marked = _marked(line, own)
        lines.append((_parts(marked, own) if _depth(marked) <= _DEEPEST else (marked,), bool(own)))
        kinds |= own
    varies = len(lines) > 1 or any(isinstance(part, Alternatives) for parts, _ in lines for part in parts)
    return Reading(frozenset(kinds), varies, tuple(lines) or ((("",), False),))


def sentences(texts: Iterable[str | None]) -> list[str]:
    """What happens to the signs in captions: a sentence for each kind, with the number of captions that have it."""
    kinds_of_texts = [read(text).kinds for text in texts if text]
    counts = {kind: sum(kind in kinds for kinds in kinds_of_texts) for kind in MEANINGS}
    return [f"{having}: {counts[kind]}. {done}" for kind, (having, done) in MEANINGS.items() if counts[kind]]


def meanings(text: str | None) -> list[str]:
    """What happens to each kind of sign in one caption."""
    kinds = read(text).kinds if text else frozenset()
    return [done for kind, (_, done) in MEANINGS.items() if kind in kinds]


def _lines(text: str, kinds: set[str]) -> list[str]:
    lines = tidied(text).split("\n")
    if any(map(_PARAMETERS.match, lines)):
        kinds.add("notes")
        ends = (place for place, line in enumerate(lines) if _BEHIND_PROMPT.match(line))
        return [" ".join(lines[: next(ends)])]
    words = [line for line in lines if not is_comment(line)]
    if len(words) < len(lines):
        kinds.add("comments")
    if len(words) > 1:
        kinds.add("lines")
    return words


def _marked(line: str, kinds: set[str]) -> str:
    """The line with escaped letters put aside, names of absent things removed, and commas in place of keywords."""

    def gone(kind: str, put: str) -> str:
        kinds.add(kind)
        return put

    line = re.sub(r"\\(.?)", lambda match: gone("escapes", _put_aside(match[1])), line)
    line = TAG.sub(lambda _: gone("networks", ""), line)
    line = _WILDCARD.sub(lambda _: gone("wildcards", ""), line)
    line = _SEPARATOR.sub(lambda _: gone("separators", ", "), line)
    pieces = _at_keywords(line)
    if len(pieces) == 1:
        return line
    kinds.add("breaks")
    return ", ".join(match[1] if (match := _WEIGHT.fullmatch(piece)) else piece for piece in pieces)


def _put_aside(letter: str) -> str:
    return chr(_PLAIN + ord(letter)) if letter and letter.isascii() and not letter.isalnum() else letter


def _at_keywords(line: str) -> list[str]:
    """The line split at BREAK and AND, except where they stand among other words in capitals, as on a sign."""
    pieces, begun = [], 0
    for match in _KEYWORD.finditer(line):
        before = re.search(r"([^\W\d_]{2,})(?:\s+[AI])?['\"]?\s+$", line[: match.start()])
        after = re.match(r"\s+['\"]?([^\W\d_]{2,})", line[match.end() :])
        if any(word and word[1].isupper() and not _KEYWORD.fullmatch(word[1]) for word in (before, after)):
            continue
        pieces.append(line[begun : match.start()])
        begun = match.end()
    return [*pieces, line[begun:]]


def _parts(text: str, kinds: set[str]) -> Parts:
    """The parts of a line, or of a piece of one."""
    parts: list[str | Alternatives] = []
    place = 0
    while place < len(text):
        end = _partner(text, place)
        if end is None:
            parts.append(text[place])
            place += 1
            continue
        inner = text[place + 1 : end]
        if not inner.strip() or (text[place] == "{" and inner in _PLACES):
            parts.append(text[place : end + 1])
        else:
            parts += _GROUPS[text[place]](inner, text[:place], text[end + 1 :], kinds)
        place = end + 1
    return _joined(parts)


def _depth(text: str) -> int:
    """The greatest depth of nested brackets."""
    steps = ((letter in _PAIRS) - (letter in _CLOSING) for letter in text)
    return max(itertools.accumulate(steps, lambda depth, step: max(0, depth + step)), default=0)


def _partner(text: str, place: int) -> int | None:
    """The position at which the bracket of a position is closed; None if it stays open, or if no bracket stands there."""
    opened, depth = text[place], 0
    closes = _PAIRS.get(opened)
    for at in range(place, len(text)) if closes else ():
        depth += (text[at] == opened) - (text[at] == closes)
        if depth == 0:
            return at
    return None


def _round(inner: str, before: str, after: str, kinds: set[str]) -> Parts:
    if weight := _WEIGHT.fullmatch(inner):
        return ("(", inner, ")") if _is_number(weight[1]) else _unweighted(weight[1], before, after, kinds)  # (16:9) is no weight
    doubled = inner.startswith("(") and _partner(inner, 0) == len(inner) - 1
    leads = (not before.strip() or before.rstrip().endswith(",")) and (not after or after[0] in ", ")
    if doubled or leads:
        return _unweighted(inner, before, after, kinds)
    kinds.add("names")
    return ("(", *_parts(inner, kinds), ")")


def _square(inner: str, before: str, after: str, kinds: set[str]) -> Parts:
    options = _split(inner, "|")
    if len(options) > 1:
        return _choice(options, kinds)
    edited = _split(inner, ":")
    if len(edited) > 1 and _is_number(edited[-1]) and not _is_number(edited[0]):
        return _choice([option for option in edited[:-1] if option.strip()], kinds)
    if before[-1:].isalnum() or _is_number(edited[0]):  # list[3], [16:9]
        return ("[", *_parts(inner, kinds), "]")
    return _unweighted(inner, before, after, kinds)


def _curly(inner: str, before: str, after: str, kinds: set[str]) -> Parts:
    options = _split(inner[count.end() :] if (count := _COUNT.match(inner)) else inner, "|")
    if len(options) > 1:
        return _choice(options, kinds)
    return _unweighted(options[0], before, after, kinds)


def _unweighted(inner: str, before: str, after: str, kinds: set[str]) -> Parts:
    """The words with spaces around them, because the WebUI reads the words of each weight separately from their neighbours."""
    kinds.add("weights")
    return (" " * before[-1:].isalnum(), *_parts(inner, kinds), " " * (after[:1].isalnum() or after[:1] in tuple(_PAIRS)))


_GROUPS = {"(": _round, "[": _square, "{": _curly}


def _choice(options: Sequence[str], kinds: set[str]) -> Parts:
    kinds.add("choices")
    weighed = [_SHARE.fullmatch(option) for option in options]
    shares = tuple(float(match[1]) if match else 1.0 for match in weighed)
    texts = [match[2] if match else option for match, option in zip(weighed, options, strict=True)]
    if not any(shares):
        shares = (1.0,) * len(texts)
    parts = tuple(_parts(text, kinds) for text in texts)
    return (Alternatives(parts, shares),) if len(parts) > 1 else parts[0] if parts else ()


def _split(text: str, at: str) -> list[str]:
    """The text split where ``at`` stands outside brackets."""
    pieces, begun, place = [], 0, 0
    while place < len(text):
        end = _partner(text, place)
        if end is None and text[place] == at:
            pieces.append(text[begun:place])
            begun = place + 1
        place = place + 1 if end is None else end + 1
    return [*pieces, text[begun:]]


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*", text) is not None


def _joined(parts: Sequence[str | Alternatives]) -> Parts:
    """The same parts, with neighbouring texts joined."""
    joined: list[str | Alternatives] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    return tuple(joined)


def _picked(parts: Parts, rng: random.Random) -> str:
    return "".join(part if isinstance(part, str) else _picked(rng.choices(part.options, part.shares)[0], rng) for part in parts)


def _variants(parts: Parts) -> list[str]:
    """The texts that the parts can give, the last choice changing first; if there are very many, only the first of them."""
    texts = [""]
    for part in parts:
        options = [part] if isinstance(part, str) else [text for option in part.options for text in _variants(option)]
        texts = [text + option for text in texts for option in options][:_MOST_VARIANTS]
    return texts


def _finished(text: str, signs: bool) -> str:
    if not signs:
        return text
    tags = (" ".join(tag.split()) for tag in text.split(","))
    whole = ", ".join(tag for tag in tags if tag)
    return "".join(chr(ord(letter) - _PLAIN) if _PLAIN <= ord(letter) < _PLAIN + 128 else letter for letter in whole)
