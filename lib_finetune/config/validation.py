"""Checks of the settings that need nothing but the settings: all problems are collected and raised at once."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Collection
from typing import Any

from lib_finetune.config import other_tools
from lib_finetune.config.codec import all_leaves
from lib_finetune.config.fields import Leaf, value_at
from lib_finetune.config.settings import METHODS, Settings
from lib_finetune.errors import InputError, Problem

_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{digit}" for port in ("com", "lpt") for digit in "123456789¹²³")}
"""Names that Windows keeps for devices. Reference: Microsoft, Naming Files, Paths, and Namespaces."""
_NAME_LIMIT = 100
_NAME_BYTES = 180
"""Of the 255 that a file system allows; the rest is for what is put behind and in front of it."""
_INVISIBLE = ("Cf", "Cs", "Co", "Cn")
"""Unicode's categories of what nobody sees: marks that turn the direction of text, joiners, halves of characters, no characters."""


def validate(settings: Settings, but: Collection[str] = ()) -> None:
    """Check every value against its range and choices, the name, and what settings demand of each other.

    Args:
        but: settings whose faults are passed over.

    Raises:
        InputError: with one `Problem` for each fault.
    """
    problems = [Problem(leaf.path, fault) for leaf in all_leaves().values() for fault in _answered(settings, leaf)]
    problems += [Problem("name", fault) for fault in name_faults(settings.name)]
    problems += _combinations(settings)
    if problems := [problem for problem in problems if problem.field not in but]:
        raise InputError(problems)


def readable(settings: Settings) -> Settings:
    """The same settings, of a job of an earlier session: its choices may be outdated, but it has to be known what it is.

    Raises:
        InputError: of an unknown method, or with a value that is no number.
    """
    if settings.method not in METHODS:
        raise InputError([Problem("method", f"{settings.method!r} is unknown.")])
    for path in all_leaves():
        value = value_at(settings, path)
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError([Problem(path, f"{value} is no number.")])
    return settings


def name_faults(name: str) -> list[str]:
    """What is wrong with the name of a result; it becomes a file name on every system and stands inside ``<lora:name:1>``."""
    if not name.strip():
        return ["is empty. Give the result a name, for example my-cat."]
    if name in (".", "..") or re.search(r"[/\\]", name):
        return [f"{name!r} contains path parts. Use a plain name such as my-cat; the folder is the WebUI's own."]
    faults = []
    if bad := sorted(set(re.findall(r'[<>:"|?*,()\[\]{}\x00-\x1f\x7f-\x9f]', name))):
        faults.append(f"{name!r} contains {' '.join(bad)!r}, which a file name or a prompt cannot hold. Use letters, digits, - and _.")
    if invisible := sorted({letter for letter in name if unicodedata.category(letter) in _INVISIBLE}):
        codes = ", ".join(f"U+{ord(letter):04X}" for letter in invisible)
        faults.append(f"{name!a} contains characters that cannot be seen ({codes}). Type the name anew.")
    if name != name.strip() or name.startswith(".") or name.endswith("."):
        faults.append(f"{name!r} begins or ends with a space or a dot.")
    if name.split(".", maxsplit=1)[0].lower() in _RESERVED:
        faults.append(f"{name!r} is a name that Windows keeps for itself.")
    if len(name) > _NAME_LIMIT:
        faults.append(f"has {len(name)} characters; at most {_NAME_LIMIT} fit.")
    elif (size := len(name.encode("utf-8", "surrogatepass"))) > _NAME_BYTES:
        faults.append(f"takes {size} bytes as a file name; at most {_NAME_BYTES} fit. Choose a shorter one.")
    return faults


def _answered(settings: Settings, leaf: Leaf) -> list[str]:
    """The faults of a setting, with what to set where another tool would have taken the value."""
    value = value_at(settings, leaf.path)
    hint = other_tools.answer(settings, leaf.path, value)
    return [f"{fault} {hint}".rstrip() for fault in _faults(leaf, value)]


def _faults(leaf: Leaf, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, float) and not math.isfinite(value):
        return [f"{value} is not a finite number."]
    allowed = leaf.about.allowed()
    if allowed is not None and value not in allowed:
        near = next((choice for choice in allowed if isinstance(value, str) and str(choice).lower() == value.strip().lower()), None)
        meant = f" Write {near}." if near is not None else ""
        return [f"{value!r} is not one of {', '.join(str(choice) for choice in allowed)}.{meant}"]
    low, high = leaf.about.low, leaf.about.high
    if (low is not None and value < low) or (high is not None and value > high):
        return [f"{value} is outside {_number(low)} to {_number(high)}{' ' + leaf.about.unit if leaf.about.unit else ''}."]
    return []


def _number(value: float | None) -> str:
    return "any" if value is None else f"{value:.10g}"


def _combinations(settings: Settings) -> list[Problem]:
    problems = []
    if not settings.data.images.strip():
        problems.append(Problem("data.images", "is empty. Name the folder that holds the images."))
    if settings.data.resolution % 64:
        near = max(64, round(settings.data.resolution / 64) * 64)
        problems.append(Problem("data.resolution", f"{settings.data.resolution} is not a multiple of 64; {near} is the nearest."))
    if settings.objective.timestep_min > settings.objective.timestep_max:
        low, high = settings.objective.timestep_min, settings.objective.timestep_max
        problems.append(Problem("objective.timestep_min", f"{low} is above objective.timestep_max = {high}."))
    if settings.method == "pivotal_tuning" and settings.network.begin > settings.embedding.until:
        begin, until = settings.network.begin, settings.embedding.until
        problems.append(Problem("network.begin", f"{begin:g} is after embedding.until = {until:g}: between them nothing would learn."))
    return problems
