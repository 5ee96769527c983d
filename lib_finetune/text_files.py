"""Text that people wrote, from the bytes of a file: captions, templates, settings."""

from __future__ import annotations

import codecs
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
_MARK = "\ufeff"
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
        NotTextError: it is in another encoding, whose likely name is told, or holds NUL bytes.
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
    try:
        from charset_normalizer import from_bytes
    except ImportError:  # it comes with requests, which hosts have
        likely = None
    else:
        likely = from_bytes(content[:_GUESSED_BYTES]).best()
    if likely is None or likely.encoding.startswith("utf_8"):
        return "it is not UTF-8 text, and what it is cannot be told; save it again as UTF-8"
    return f"it is not UTF-8 text but looks like {likely.encoding.replace('_', '-')}; save it again as UTF-8"


def _guess_with_nul(content: bytes) -> str:
    for encoding, name in _UNMARKED:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if all(letter.isprintable() or letter.isspace() for letter in text):
            return f"it looks like {name} text without a byte order mark; save it again as UTF-8"
    return "it holds NUL bytes, so it is no text"
