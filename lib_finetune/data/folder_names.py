"""Names of folders in kohya's form, ``10_name class``, and those that nearly follow it and so ask for repeats that they do not get."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_EXACT = re.compile(r"(\d{1,3})_(.*\S.*)", re.DOTALL)
"""Up to three digits: "2024_holiday" is a year and not 2024 repeats."""
_MANY_DIGITS = re.compile(r"\d{4,}_\s*(?=[^\W\d_]).*", re.DOTALL)
_NAMELESS = re.compile(r"\d{1,3}_\s*", re.DOTALL)
_NEAR = re.compile(
    r"(?:[\W_]|(?:x|×|repeats?[\W_]*)(?=\d))*(?P<number>\d+)(?P<fraction>[.,]\d+)?[\s_]*(?:x|×|repeats?|reps|times)?[\W_]+(?P<name>[^\W\d_].*)"
    r"|[\W_]+(?P<joined>\d+)[^\W_].*|\d+e\d+_.*",
    re.DOTALL | re.IGNORECASE,
)
"""A number, perhaps behind signs or with an x or "repeats", and a name apart from it; or behind signs, with or without anything between; or 1e3."""


def kohya_form(name: str) -> tuple[int, str] | None:
    """Repeats and words of a folder's name; None where it is not in the form."""
    match = _EXACT.fullmatch(name)
    return (int(match[1]), " ".join(match[2].split())) if match else None


def remarks(pictures: Iterable[Path], folder: Path) -> list[str]:
    """A sentence for each name that nearly follows kohya's form, of the folders that images lie in, the scanned one included."""
    folders = {parent for path in pictures for parent in path.parents if parent == folder or folder in parent.parents}
    sentences = (_remark(name) for name in sorted({place.name for place in folders}))
    return [sentence for sentence in sentences if sentence]


def _remark(name: str) -> str | None:
    if kohya_form(name):
        return None
    if _MANY_DIGITS.fullmatch(name):
        return f'The folder "{name}" gives no repeats and no words: a number of more than three digits is taken for a year.'
    if _NAMELESS.fullmatch(name):
        return f'The folder "{name}" sets no repeats: no name follows the number, as in 10_zxq.'
    near = _NEAR.fullmatch(name)
    if near is None:
        return None
    if near["number"] and not near["fraction"] and len(near["number"]) <= len("999"):
        return f'The folder "{name}" gives no repeats and no words; for those its name would be "{near["number"]}_{near["name"]}".'
    return f'The folder "{name}" gives no repeats and no words; names for those begin as 10_zxq does.'
