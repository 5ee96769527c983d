"""Each sentence on time or effort that a person reads in the help or in README has the measurement that it rests on beside it in the source."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TIME = re.compile(
    r"\b(seconds?|minutes?|hours?|slower|faster|longer|as long as|more time|at once|passes? (twice|an image)|forward pass)\b|\btimes as\b",
    re.IGNORECASE,
)
ABOVE = 4
"""Lines above the sentence in which the measurement stands."""
NO_TIME = ("--second", "no longer", "images during training come at once", "the next run then starts at once")
"""What happens without waiting for a step of its own, and what is longer in another sense."""


def untold(lines: list[str], sentence: re.Pattern[str], measured: str) -> list[str]:
    """Lines that speak of time without a measurement at them."""
    found = []
    for number, line in enumerate(lines):
        shown = sentence.search(line)
        if shown and TIME.search(shown[0]) and not any(words in line for words in NO_TIME):
            around = "\n".join(lines[max(0, number - ABOVE) : number + 1])
            if measured not in around:
                found.append(line.strip())
    return found


def test_times_in_the_help_have_their_measurement() -> None:
    lines = (ROOT / "lib_finetune/config/settings.py").read_text(encoding="utf-8").splitlines()
    assert untold(lines, re.compile(r'"[^"]+"'), "# measured:") == []


def test_times_in_readme_and_guide_have_their_measurement() -> None:
    lines = [line for name in ("README.md", "docs/guide.md") for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    assert untold(lines, re.compile(r"^(?!<!--).*$"), "<!-- measured:") == []


def test_a_time_without_a_measurement_is_found() -> None:
    assert untold(['"It takes a third longer."'], re.compile(r'"[^"]+"'), "# measured:") == ['"It takes a third longer."']
    assert untold(["# measured: 1.3", '"It takes a third longer."'], re.compile(r'"[^"]+"'), "# measured:") == []
