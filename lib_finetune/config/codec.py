"""Settings to and from plain dictionaries, JSON and TOML; unknown keys and wrong types are errors with the nearest name."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import reprlib
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lib_finetune.config.fields import Leaf, leaves, replaced
from lib_finetune.config.settings import Settings
from lib_finetune.errors import InputError, Problem, reason_of
from lib_finetune.text_files import NotTextError, content, decoded

VERSION = 1
_LEAVES: dict[str, Leaf] = {leaf.path: leaf for leaf in leaves(Settings)}
_UNREADABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
"""Control characters, and halves of characters: neither a path nor a caption can hold them."""
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 80
_PLACES = ("data.images", "data.class_images", "embedding.init", "embedding.template", "network.start")
"""They name files, whose names count letter by letter; the accents of all other texts are composed (NFC), so that what looks the same is."""
_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def all_leaves() -> Mapping[str, Leaf]:
    """Every setting by its dotted path, in order."""
    return _LEAVES


def to_dict(settings: Settings) -> dict[str, Any]:
    """Nested plain values with the version of the form."""
    return {"version": VERSION, **dataclasses.asdict(settings)}


def from_dict(values: Mapping[str, Any], base: Settings | None = None) -> Settings:
    """The inverse of `to_dict`; what is not named keeps the value of ``base``.

    Raises:
        InputError: unknown names, wrong types or a form of a newer version; all of them at once.
    """
    problems: list[Problem] = []
    version = values.get("version", VERSION)
    if version != VERSION:
        problems.append(Problem("version", f"this file is of version {version!r}; this Finetune reads {VERSION}. Update Finetune."))
    flat = dict(_flatten({key: value for key, value in values.items() if key != "version"}))
    return _assign(base or Settings(), flat.items(), problems, text=False)


def with_values(settings: Settings, pairs: Iterable[tuple[str, str]]) -> Settings:
    """A copy with dotted paths set from text, as ``--set network.rank=32`` gives them; "auto" stands for None.

    Raises:
        InputError: all unknown names and unreadable values at once.
    """
    return _assign(settings, pairs, [], text=True)


def to_json(settings: Settings) -> str:
    """JSON text of `to_dict`."""
    return json.dumps(to_dict(settings), indent=2, ensure_ascii=False)


def load(path: Path, base: Settings | None = None) -> Settings:
    """Settings from a .toml or .json file.

    Raises:
        InputError: the file is missing, unreadable, or holds what `from_dict` refuses.
    """
    try:
        held = content(path)
    except (OSError, NotTextError) as error:
        raise InputError([Problem("config", f"{path} cannot be read: {reason_of(error)}.")]) from error
    return parsed(held, path, base)


def parsed(held: bytes, path: Path, base: Settings | None = None) -> Settings:
    """Settings from what a .toml or .json file holds.

    Args:
        path: its name, which tells the form; nothing is read there.

    Raises:
        InputError: it is unreadable, or holds what `from_dict` refuses.
    """
    try:
        text = decoded(held)
    except NotTextError as error:
        raise InputError([Problem("config", f"{path} cannot be read: {error}.")]) from error
    try:
        values = json.loads(text) if path.suffix.lower() == ".json" else _toml(text)
    except (ValueError, RecursionError) as error:
        raise InputError([Problem("config", f"{path} is not a valid {path.suffix or 'TOML'} file: {error}")]) from error
    if not isinstance(values, dict):
        raise InputError([Problem("config", f"{path} holds no table of settings.")])
    return from_dict(values, base)


def _toml(text: str) -> dict[str, Any]:
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10; toml comes with lycoris-lora
        import toml

        return dict(toml.loads(text))
    return tomllib.loads(text)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        path = f"{prefix}{key}"
        # A table of unknown name is passed on as one value, so that its own name is reported and not its content's.
        if isinstance(value, Mapping) and any(known.startswith(path + ".") for known in _LEAVES):
            yield from _flatten(value, path + ".")
        else:
            yield path, value


def _assign(settings: Settings, pairs: Iterable[tuple[str, Any]], problems: list[Problem], *, text: bool) -> Settings:
    for path, value in pairs:
        leaf = _LEAVES.get(path)
        if leaf is None:
            problems.append(Problem(path, f"there is no such setting.{_nearest(path)}"))
            continue
        try:
            value = _read(leaf, value) if text else _typed(leaf, value)
            if isinstance(value, str) and path not in _PLACES:
                value = unicodedata.normalize("NFC", value)
            settings = replaced(settings, path, value)
        except (ValueError, RecursionError) as error:
            problems.append(Problem(path, str(error)))
    if problems:
        raise InputError(problems)
    return settings


def _nearest(path: str) -> str:
    near = difflib.get_close_matches(path, _LEAVES, n=1, cutoff=0.5)
    if not near:  # the section was left out: "ranc" means network.rank
        tails = {known.rpartition(".")[2]: known for known in _LEAVES}
        near = [tails[tail] for tail in difflib.get_close_matches(path, tails, n=1)]
    return f" Did you mean {near[0]}?" if near else " See `python -m lib_finetune describe`."


def _typed(leaf: Leaf, value: Any) -> Any:
    if value is None and leaf.optional:
        return None
    if leaf.type is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise ValueError(f"{_short(value)} is not {_noun(leaf.type)}.") from None
    if not isinstance(value, leaf.type) or (leaf.type is int and isinstance(value, bool)):
        raise ValueError(f"{_short(value)} is not {_noun(leaf.type)}.")
    return _readable(value) if isinstance(value, str) else value


def _read(leaf: Leaf, text: str) -> Any:
    if leaf.optional and text.strip().lower() in ("auto", "none", ""):
        return None
    if leaf.type is str:
        return _readable(text)
    try:
        return _WORDS[text.strip().lower()] if leaf.type is bool else leaf.type(text)
    except (KeyError, ValueError):
        raise ValueError(f"{_short(text)} is not {_noun(leaf.type)}.") from None


def _readable(text: str) -> str:
    if unreadable := _UNREADABLE.search(text):
        raise ValueError(f"{_short(text)} holds {unreadable[0]!r}, which no text has. Type it anew.")
    return text


def _short(value: Any) -> str:
    """A value for a message; what is long or nested deeply is cut."""
    return _SHORT.repr(value)


def _noun(kind: type) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[kind]
