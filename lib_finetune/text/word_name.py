"""Whether a name can be a word of its own: the WebUI finds an embedding by its tokens, wherever they follow one another in a prompt.

Reference: `find_embedding_at_position` in the WebUI's modules/textual_inversion/textual_inversion.py. What ends a token is not
looked at on its left side: "ishly" is found inside "boyishly", "woman2" inside "woman 25 years old".
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from lib_finetune.text.learned import ids_of

_END = "</w>"
_JOINTS = {"-" + _END, "_" + _END}
_ENDINGS = (
    "s", "es", "ed", "er", "ers", "ing", "ings", "ly", "y", "al", "ally", "able", "ful", "fully", "less", "ness", "ish", "ism", "ist", "ists",
    "ity", "ment", "ments", "like", "ship", "ward", "wise",
)  # fmt: skip
"""Endings that make words of words; the longer words are rarely in CLIP's vocabulary and fall apart into tokens."""
_TRIED = 200


def refusal(tokenizer: Any, name: str, captions: Iterable[str] = (), templates: Iterable[str] = ()) -> str | None:
    """Why prompts that do not mean the name would call it, in a sentence; None when none is known of.

    Args:
        tokenizer: a CLIPTokenizer.
        captions: of the training; they may hold the name as a word.
        templates: what stands around the name.
    """
    ids = ids_of(tokenizer, name)
    pieces = [str(piece) for piece in tokenizer.convert_ids_to_tokens(ids)]
    if len(ids) <= 1:
        return f"{name!r} is a word that the model knows, and every prompt with it would change."
    if all(piece.endswith(_END) for piece in pieces) and (not any(map(str.isalpha, name)) or not _JOINTS & set(pieces)):
        apart = " ".join(piece.removesuffix(_END) for piece in pieces)
        shown = f"{name}0" if name[-1].isdigit() else apart
        example = "" if shown == name else f", as in {shown!r}"
        return f"{name!r} is made of words that the model knows; the WebUI would find it wherever they follow one another{example}."
    if word := next((word for word in _derived(tokenizer, name.lower()) if _inside(ids, ids_of(tokenizer, word))), None):
        return f"{name!r} is found by the WebUI inside other words, such as {word!r}."
    own = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)
    for text, around in (*((caption, own.sub(" ", caption)) for caption in captions), *((template, template) for template in templates)):
        if _inside(ids, ids_of(tokenizer, around)):
            return f"{name!r} is found by the WebUI among the other words of the caption {text[:60]!r}."
    return None


def proposal(tokenizer: Any, name: str, captions: Sequence[str] = (), templates: Sequence[str] = ()) -> str:
    """A name like this one that is not refused."""
    plain = re.sub(r"\W+", "-", name).strip("-_").lower() or "word"
    tried = [f"my-{plain}", f"zxq-{plain}", f"{plain}-zxq"]
    return next((other for other in tried if refusal(tokenizer, other, captions, templates) is None), tried[-1])


def _derived(tokenizer: Any, name: str) -> Iterator[str]:
    """Longer words that end like the name: words of the vocabulary with an ending that is the name's too."""
    for ending in _ENDINGS:
        stem = name.removesuffix(ending)
        if name.endswith(ending) and len(stem) > 1:
            longer = [word.removesuffix(_END) for word in tokenizer.get_vocab() if word.endswith(stem + _END)]
            # The vocabulary also holds parts of words ("inguish"): what another entry ends with is none.
            whole = (word for word in longer if word.isalpha() and not any(other.endswith(word) and other != word for other in longer))
            yield from (word + ending for word in itertools.islice(whole, _TRIED) if word != stem)


def _inside(ids: Sequence[int], others: Sequence[int]) -> bool:
    return any(list(others[place : place + len(ids)]) == list(ids) for place in range(len(others) - len(ids) + 1))
