"""A registry: the named, open set of implementations of one kind."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from lib_finetune.errors import InputError, Problem

T = TypeVar("T")


class Registry(Generic[T]):
    """Names to implementations, in the order of registration."""

    def __init__(self, kind: str, field: str) -> None:
        """
        Args:
            kind: what is registered, in the singular ("optimizer"), for messages.
            field: the setting that chooses one ("optimizer.name").
        """
        self.kind = kind
        self.field = field
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that adds the decorated object under ``name``.

        Raises:
            ValueError: the name is taken.
        """

        def add(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = entry
            return entry

        return add

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            near = difflib.get_close_matches(name, self._entries, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise InputError([Problem(self.field, f"there is no {self.kind} {name!r}.{hint} There are: {', '.join(self._entries)}.")])
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
