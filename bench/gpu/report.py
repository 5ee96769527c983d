"""Rows of checks, and the Markdown table and JSON that they become."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

OK, FAIL, NOT_HERE = "ok", "FAIL", "not here"


class NotHereError(Exception):
    """This machine cannot show it; the message says what is missing."""


@dataclass(frozen=True)
class Row:
    """
    Attributes:
        check: what was tried.
        outcome: `OK`, `FAIL` or `NOT_HERE`.
        figure: what was measured, or why it failed or was left out.
        seconds: it took.
    """

    check: str
    outcome: str
    figure: str
    seconds: float


def row(check: str, run: Callable[[], str], clock: Callable[[], float]) -> Row:
    """Run a check; whatever it raises becomes its row, so that the next one has its turn."""
    begin = clock()
    try:
        outcome, figure = OK, run()
    except NotHereError as reason:
        outcome, figure = NOT_HERE, str(reason)
    except Exception as error:  # noqa: BLE001  a row
        outcome, figure = FAIL, f"{type(error).__name__}: {error}"
    return Row(check, outcome, " ".join(figure.split()).replace("|", "/"), clock() - begin)


def markdown(facts: Mapping[str, str], rows: Sequence[Row]) -> str:
    """One table, under a line with date, commit, card and driver."""
    head = "; ".join(f"{name}: {value}" for name, value in facts.items())
    lines = [head, "", "| check | outcome | figure | s |", "| --- | --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {each.check} | {each.outcome} | {each.figure} | {each.seconds:.0f} |" for each in rows)]) + "\n"


def as_json(facts: Mapping[str, str], rows: Sequence[Row]) -> str:
    """The same, for a program."""
    return json.dumps({"facts": dict(facts), "rows": [asdict(each) for each in rows]}, indent=1) + "\n"
