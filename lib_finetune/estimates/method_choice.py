"""Advice: which of the methods suits what the images show, and why, in a line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lib_finetune.config.settings import METHODS

WISHES = ("", "likeness", "whole style", "small file", "many models")
"""Nothing in particular · the best likeness · a subject together with its style · a small file · use with many checkpoints."""
ENOUGH = 15
"""Images from which on the whole model gains over patches."""
_TITLES = {"lora": "LoRA", "dreambooth": "DreamBooth", "textual_inversion": "Textual Inversion"}
_NOUNS = {"": "a subject", "person": "a person", "animal": "an animal", "thing": "a thing", "style": "a style"}


@dataclass(frozen=True)
class Case:
    """What is known.

    Attributes:
        kind: of `config.settings.KINDS`.
        drawn: whether the person is drawn; None where it is not known.
        images: how many there are.
        wish: one of `WISHES`.
        fits: method → whether it fits in memory and on the disk; what is not named, fits.
    """

    kind: str
    drawn: bool | None
    pictures: int
    wish: str = ""
    fits: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Advice:
    """
    Attributes:
        method: "" where nothing fits.
        reason: in a line.
        question: what to ask the person for better advice, or "".
    """

    method: str
    reason: str
    question: str = ""


def advise(case: Case) -> Advice:
    """The method to recommend; what does not fit never is.

    Raises:
        ValueError: an unknown wish or kind.
    """
    if case.wish not in WISHES or case.kind not in _NOUNS:
        raise ValueError(f"{case.wish!r} for {case.kind!r} is no case to advise on")
    question = "Photo or drawn?" if case.kind == "person" and case.drawn is None else ""
    best = _best(case)
    order = [method for method in (best, "lora", "textual_inversion", "dreambooth") if _able(method, case)]
    fitting = [method for method in order if case.fits.get(method, True)]
    if not fitting:
        return Advice("", "Nothing fits in memory and on the disk: close other programs, or lower the resolution.", question)
    chosen, about = fitting[0], _about(case)
    if chosen != best:
        return Advice(chosen, f"{about}: {_TITLES[chosen]}, for {_TITLES[best]} does not fit", question)
    return Advice(chosen, f"{about}: {_TITLES[chosen]}", question)


def _able(method: str, case: Case) -> bool:
    """A style is too broad for a word."""
    return method in METHODS and not (method == "textual_inversion" and case.kind == "style")


def _best(case: Case) -> str:
    """What would be chosen if all fitted."""
    if case.wish in ("likeness", "whole style") and case.pictures >= ENOUGH:
        return "dreambooth"
    light = case.wish in ("small file", "many models") or (case.wish == "" and case.kind == "person" and case.drawn is False)
    return "textual_inversion" if light and case.kind != "style" else "lora"


def _about(case: Case) -> str:
    """The case in words."""
    count = f"{case.pictures} image{'' if case.pictures == 1 else 's'}" if case.pictures else "No images yet"
    noun = _NOUNS[case.kind]
    if case.kind == "person" and case.drawn is not None:
        noun = "a drawn person" if case.drawn else "a person in photos"
    wishes = {
        "likeness": ", the best likeness",
        "whole style": ", with the whole style",
        "small file": ", a small file",
        "many models": ", for many models",
    }
    few = f" (fewer than {ENOUGH})" if case.wish in ("likeness", "whole style") and 0 < case.pictures < ENOUGH else ""
    return f"{count} of {noun}{wishes.get(case.wish, '')}{few}" if case.pictures else f"{count}; for {noun}{wishes.get(case.wish, '')}"
