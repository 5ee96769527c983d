"""The agenda of a run: what is done after which step, in one order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Entry = tuple[Callable[[int], bool], Callable[[int], None]]
"""(whether it is due after a step, what is done then); the first is asked once for each step, so it may take a person's press."""


class Agenda:
    """Gives `Trainer.train` its ``due`` and ``act``."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = tuple(entries)
        self._pending: list[Callable[[int], None]] = []

    def due(self, step: int) -> bool:
        """Whether anything is to be done after this step. Asks every entry, also behind one that is due."""
        self._pending = [act for due, act in self._entries if due(step)]
        return bool(self._pending)

    def act(self, step: int) -> None:
        """Do what `due` found, in the order of the entries."""
        for act in self._pending:
            act(step)
