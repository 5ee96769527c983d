"""Text that people wrote, from the bytes of a file: captions, templates, settings."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from lib_finetune import regular_files

MOST_BYTES = 1_000_000
"""Of a caption, a list of templates or settings; what is larger was taken for one by mistake."""
_MARKS = (
    # UTF-32's mark in little order begins with UTF-16's.
    (codecs.BOM_UTF32_LE, "utf-32-le", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32-be", "UTF-32"),
    (codecs.BOM_UTF8, "utf-8", "UTF-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "UTF-16"),
)
_UNMARKED = (("utf-32-le", "UTF-32"), ("utf-32-be", "UTF-32"), ("utf-16-le", "UTF-16"), ("utf-16-be", "UTF-16"))
_MARK, _DAMAGED = "\ufeff", "\ufffd"
_WESTERN = re.compile("[äöüßéèêëàâçñáíóúîïôûùåæøœãõìòÄÖÜÉÀÇÑÅØ“”‘’„–—…«»°´¡¿£€•·]")
_LETTERS = (
    ("shift-jis", "cp932", re.compile("[ぁ-ヿ]"), 0.15),
    ("euc-jp", "euc_jp", re.compile("[ぁ-ヿ]"), 0.25),
    (
        "cp949",
        "cp949",
        re.compile("[이다는고가의에을를은한하지로기사자여인아나어머모스도리라서시대정해수안그전보일부원있장들과양귀쓴]"),
        0.5,
    ),
    ("gb18030", "gb2312", re.compile("[\u4e00-\u9fff\u3000-\u301f\uff00-\uff65]"), 0.95),
    ("big5", "big5", re.compile("[\u4e00-\u9fff\u3000-\u301f\uff00-\uff65]"), 0.95),
    ("cp1251", "cp1251", re.compile("[а-яё]"), 0.85),
    ("koi8-r", "koi8_r", re.compile("[а-яё]"), 0.85),
    ("cp866", "cp866", re.compile("[а-яё]"), 0.85),
    ("shift-jis", "cp932", re.compile("[\u4e00-\u9fff\u3000-\u301f\uff01-\uff60]"), 0.95),
)
"""Encodings that captions are saved in by mistake, how Python calls them, their frequent letters, and how many of the letters are such at least."""
_LEGACY = [
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp874", "cp932", "gb18030", "big5", "cp949", "euc_jp", "koi8_r", "mac_roman",
]  # fmt: skip
"""Those that a library may choose from: all that it knows of are guessed at random for a few words."""
_GUESSED_BYTES = 65_536


class NotTextError(ValueError):
    """Bytes that are no text; says what they look like and what to do, to follow the name of the file and a colon."""


def read(path: Path, at_most: int = MOST_BYTES) -> str:
    """The text of a file; see `decoded`.

    Args:
        at_most: bytes that such a text may have.

    Raises:
        NotTextError: as `decoded`, or it is larger.
        OSError: it cannot be read, or is no regular file.
    """
    return decoded(content(path, at_most))


def content(path: Path, at_most: int = MOST_BYTES) -> bytes:
    """The bytes of a file of text.

    Raises:
        NotTextError, OSError: as `read`.
    """
    held = regular_files.read(path, at_most)
    if len(held) > at_most:
        size = max(path.stat().st_size, len(held))
        raise NotTextError(f"it has {size:,} bytes, and such a text has at most {at_most:,}; divide it, or choose another file")
    return held


def decoded(content: bytes) -> str:
    """The text, without its byte order mark and with lines that end in a line feed alone.

    A byte order mark of UTF-8, UTF-16 or UTF-32 is obeyed; without one the text is UTF-8. No other encoding is tried:
    a wrong guess would be read without a word of it.

    Raises:
        NotTextError: it is in another encoding, whose likely name the error gives, or holds NUL bytes.
    """
    mark, encoding, name = next((known for known in _MARKS if content.startswith(known[0])), (b"", "utf-8", "UTF-8"))
    try:
        text = content[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        if mark:
            raise NotTextError(f"it begins as {name} text and is damaged further on; save it again as UTF-8") from error
        raise NotTextError(_guess(content)) from error
    if "\0" in text:
        raise NotTextError(_guess_with_nul(content) if not mark else "it holds NUL bytes, so it is no text")
    return text.lstrip(_MARK).replace("\r\n", "\n").replace("\r", "\n")


def _guess(content: bytes) -> str:
    if b"\0" in content:
        return _guess_with_nul(content)
    head = content[:_GUESSED_BYTES]
    if line := _damaged_line(head):
        return f"it is UTF-8 text that is damaged in line {line}; write that line again and save it as UTF-8"
    likely = _by_letters(head) or _by_library(head)
    if likely is None:
        return "it is not UTF-8 text, and what it is cannot be told; save it again as UTF-8"
    return f"it is not UTF-8 text but looks like {likely}; save it again as UTF-8"


def _damaged_line(content: bytes) -> int:
    """The line of the first byte that keeps a text from being UTF-8, where most of its other letters are; else 0."""
    text = content.decode("utf-8", "replace")
    damaged, whole = text.count(_DAMAGED), sum(not letter.isascii() for letter in text)
    return text[: text.index(_DAMAGED)].count("\n") + 1 if damaged and whole >= 2 * damaged else 0


def _by_letters(content: bytes) -> str | None:
    """An encoding whose frequent letters a text is made of; a caption is too short for the statistics of a library."""
    if len(re.findall(rb"(?<![\x80-\xff])[\x80-\xff](?![\x80-\xff])", content)) * 2 >= len(re.findall(rb"[\x80-\xff]", content)):
        return "cp1252" if _share(content, "cp1252", _WESTERN) == 1 else None
    return next((name for name, codec, frequent, least in _LETTERS if _share(content, codec, frequent) >= least), None)


def _share(content: bytes, codec: str, frequent: re.Pattern[str]) -> float:
    """Of the letters beyond ASCII, those that are frequent; 0 where the bytes are not in this encoding."""
    try:
        letters = [letter for letter in content.decode(codec) if not letter.isascii()]
    except UnicodeDecodeError:
        return 0.0
    return sum(frequent.fullmatch(letter) is not None for letter in letters) / len(letters) if letters else 0.0


def _by_library(content: bytes) -> str | None:
    try:
        from charset_normalizer import from_bytes
    except ImportError:  # it comes with requests, which hosts have
        return None
    likely = from_bytes(content, cp_isolation=_LEGACY).best()
    return likely.encoding.replace("_", "-") if likely is not None else None


def _guess_with_nul(content: bytes) -> str:
    for encoding, name in _UNMARKED:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if all(letter.isprintable() or letter.isspace() for letter in text):
            return f"it looks like {name} text without a byte order mark; save it again as UTF-8"
    return "it holds NUL bytes, so it is no text"
