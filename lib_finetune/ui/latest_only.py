"""The latest_only: of one page's requests for the same thing, one at a time goes through, and those that are out of date pass by."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

_PAGES = 200


class LatestOnly:
    """Answers come back in the order in which they were asked for, so that the last one that arrives is the newest."""

    def __init__(self) -> None:
        self._count = threading.Lock()
        self._asked: OrderedDict[int, int] = OrderedDict()
        self._through: dict[int, threading.Lock] = {}

    @contextmanager
    def newest(self, page: object) -> Iterator[bool]:
        """Wait for the page's earlier requests; False where a newer one has come meanwhile.

        Args:
            page: what is the same object for all requests of a page.
        """
        name = id(page)
        with self._count:
            number = self._asked[name] = self._asked.pop(name, 0) + 1
            lock = self._through.setdefault(name, threading.Lock())
            while len(self._asked) > _PAGES:
                self._through.pop(self._asked.popitem(last=False)[0], None)
        with lock:
            yield self._asked.get(name, number) == number
