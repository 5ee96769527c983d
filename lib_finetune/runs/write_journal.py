"""The journal of what a run writes: each temporary file before it is written, and each result before it takes its place.

A killed run leaves only files that the journal names: half-written files, which the next start clears, and whole ones, which the resumed run
takes over instead of making a second one.
"""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lib_finetune.files import TEMPORARY, same_place
from lib_finetune.locked_files import put_in_place
from lib_finetune.runs.folder import RunFolder

_log = logging.getLogger(__name__)
_MOST_LINES = 2000


class NoJournal:
    """Takes the place of a journal where nothing is recorded."""

    def plan(self, name: str, step: int, files: Mapping[str, Path], *, point: bool = False) -> None:
        """See `WriteJournal.plan`."""

    def planned(self, name: str, step: int) -> dict[str, Path] | None:
        """See `WriteJournal.planned`."""
        return None


class WriteJournal:
    """Implements `files.WriteLog` for one run's folder. Any thread.

    Lines are appended and not flushed to the disk one by one, so that the journal costs no time. After a loss of power the worst is a
    file that has to be removed by hand. It has more than fifteen methods because writer and reader of a line belong together.
    """

    def __init__(self, folder: RunFolder, places: Sequence[Path]) -> None:
        """
        Args:
            places: the folders, with all below them, in which a run of this host writes.
        """
        self._folder = folder
        self._places = tuple(places)
        self._lock = threading.RLock()
        self._begun: dict[str, str] = {}
        self._marks: dict[str, tuple[int, int]] = {}
        self._plans: dict[tuple[str, int], dict[str, str]] = {}
        self._points: set[tuple[str, int]] = set()
        self._lines = 0
        self._refused = False
        for entry in _entries(folder.writes):
            self._lines += 1
            self._take(entry)

    # -- what `files.replacing` tells --

    def begins(self, temporary: Path, target: Path) -> None:
        """See `files.WriteLog`."""
        self._add({"begins": str(temporary), "target": str(target)})

    def ready(self, temporary: Path, target: Path) -> None:
        """See `files.WriteLog`."""
        if target.parent == self._folder.path:
            return
        status = temporary.stat()
        self._add({"ready": str(target), "size": status.st_size, "modified_ns": status.st_mtime_ns})

    def ended(self, temporary: Path) -> None:
        """See `files.WriteLog`."""
        self._add({"ended": str(temporary)})

    # -- results --

    def plan(self, name: str, step: int, files: Mapping[str, Path], *, point: bool = False) -> None:
        """The files of a step are about to be written: kind → file.

        Args:
            point: whether they are a snapshot.
        """
        self._add({"name": name, "step": step, "point": point, "files": {kind: str(path) for kind, path in files.items()}})

    def points(self) -> list[dict[str, Path]]:
        """Kind → file of each snapshot that the run began to write."""
        return [{kind: Path(path) for kind, path in self._plans[point].items()} for point in sorted(self._points)]

    def planned(self, name: str, step: int) -> dict[str, Path] | None:
        """Kind → file that the run planned for a step under a name, if each place is empty or holds this run's own file."""
        files = {kind: Path(path) for kind, path in self._plans.get((name, step), {}).items()}
        return files if files and all(not path.exists() or self.is_own(path) for path in files.values()) else None

    def is_own(self, path: Path) -> bool:
        """Whether this run wrote the file and nobody has changed it since."""
        try:
            status = path.lstat()
        except OSError:
            return False
        return self._is_within(path) and self._marks.get(str(path)) == (status.st_size, status.st_mtime_ns)

    # -- after a kill --

    def leftovers(self) -> list[Path]:
        """Half-written files that still exist."""
        return [path for path in (Path(name) for name in self._begun) if path.is_file() and self._is_temporary(path)]

    def clear(self, *, forget: bool = False) -> list[Path]:
        """Remove half-written files, and shorten the journal. Call under the run's lock.

        Args:
            forget: whether to forget the written files, too: a run that begins anew takes nothing over.
        """
        with self._lock:
            removed = [path for path in self.leftovers() if _removed(path)]
            self._begun = {name: target for name, target in self._begun.items() if Path(name).exists()}
            if forget:
                self._marks, self._plans, self._points = {}, {}, set()
            self._shorten()
        return removed

    def _is_temporary(self, path: Path) -> bool:
        """Whether a file may be removed. Others write to the folder of the journal, too, so only files that can be ours are."""
        target = Path(self._begun[str(path)])
        match = re.fullmatch(TEMPORARY, path.name)
        named = match is not None and match[1] == target.name[:40] and path.parent == target.parent
        return named and not path.is_symlink() and self._is_within(path)

    def _is_within(self, path: Path) -> bool:
        return path.is_absolute() and any(same_place(place, path) for place in (*self._places, self._folder.path))

    def _take(self, entry: Mapping[str, Any]) -> None:
        try:
            if "begins" in entry:
                self._begun[str(entry["begins"])] = str(entry["target"])
            elif "ended" in entry:
                self._begun.pop(str(entry["ended"]), None)
            elif "ready" in entry:
                self._marks[str(entry["ready"])] = int(entry["size"]), int(entry["modified_ns"])
            else:
                files = {str(kind): str(path) for kind, path in entry["files"].items()}
                plan = str(entry["name"]), int(entry["step"])
                self._plans[plan] = files
                if entry.get("point"):
                    self._points.add(plan)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            _log.warning("%s holds a line that cannot be read: %r", self._folder.writes, error)

    def _add(self, entry: Mapping[str, Any]) -> None:
        with self._lock:
            self._take(entry)
            self._lines += 1
            if self._lines > _MOST_LINES and not self._begun:
                self._shorten()
                return
            try:
                self._folder.path.mkdir(parents=True, exist_ok=True)
                with self._folder.writes.open("a", encoding="utf-8", errors="surrogateescape") as file:
                    file.write(json.dumps(entry) + "\n")
            except OSError as error:  # on a full disk there is still the training
                self._warn(error)

    def _shorten(self) -> None:
        begun = [{"begins": name, "target": target} for name, target in self._begun.items()]
        ready = [{"ready": name, "size": size, "modified_ns": time} for name, (size, time) in self._marks.items() if Path(name).exists()]
        plans = [
            {"name": name, "step": step, "point": (name, step) in self._points, "files": files}
            for (name, step), files in self._plans.items()
        ]
        entries = [*begun, *ready, *plans]
        path = self._folder.writes
        try:
            if not entries:
                path.unlink(missing_ok=True)
            elif path.parent.is_dir():
                beside = path.with_name(path.name + ".new")  # a fixed name, so that the next writing replaces a leftover
                beside.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8", errors="surrogateescape")
                put_in_place(beside, path)
            self._lines = len(entries)
        except OSError as error:
            self._warn(error)

    def _warn(self, error: OSError) -> None:
        if not self._refused:
            _log.warning("%s cannot be written: %s", self._folder.writes, error)
        self._refused = True


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    """The entries, without a line that a kill has cut off."""
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict):
            yield entry


def _removed(path: Path) -> bool:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("%s is half a file and was not removed: %s", path, error)
        return False
    return True
