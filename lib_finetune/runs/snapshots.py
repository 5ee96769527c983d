"""The points of a run: files of what was trained so far, kept for the person or lent to a preview, and what became of them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_finetune.errors import FinetuneError, SaveError
from lib_finetune.files import write_atomically
from lib_finetune.ports.events import ProgressSink
from lib_finetune.ports.files import HostFiles

if TYPE_CHECKING:
    from lib_finetune.runs.artifacts import Artifacts
    from lib_finetune.runs.folder import RunFolder
    from lib_finetune.runs.write_journal import WriteJournal

_log = logging.getLogger(__name__)
KEPT, ASKED, LENT = "kept", "asked", "lent"


@dataclass(frozen=True)
class Snapshot:
    """
    Attributes:
        step: steps that the files hold.
        files: kind → file, the main one first.
        why: `KEPT` as the settings say, `ASKED` for by the person and never dropped, or `LENT` to a preview until the next one.
    """

    step: int
    files: Mapping[str, Path]
    why: str


class Snapshots:
    """Writes snapshots and records them in the run's folder, so that a resumed run finds them and leaves no remains."""

    def __init__(
        self,
        folder: RunFolder,
        files: HostFiles,
        sink: ProgressSink,
        artifacts: Artifacts,
        keep: int,
    ) -> None:
        """
        Args:
            folder: of the run.
            files: receives the files that are deleted.
            artifacts: writes the files of a step, knows them again, and passes them through the host's loader.
            keep: how many of those that the settings keep stay; 0 keeps all.
        """
        self._index = folder.snapshots_index
        self._files = files
        self._sink = sink
        self._artifacts = artifacts
        self._keep = keep
        self._snapshots: list[Snapshot] = [point for point in _read(self._index) if self._is_own(point)]
        self._judged_good: set[int] = set()  # snapshots of an earlier start are not judged
        self._good = {snapshot.step for snapshot in self._snapshots}
        self._verified: set[int] = set()  # a run that was killed may have written a file without its card
        self.return_lent()

    def at(self, step: int) -> Snapshot | None:
        """The snapshot of a step, if it exists."""
        return next((point for point in self._snapshots if point.step == step), None)

    @property
    def steps(self) -> set[int]:
        """The steps of all snapshots that stay for the person."""
        return {point.step for point in self._snapshots if point.why != LENT}

    @property
    def last_good(self) -> Snapshot | None:
        """The newest existing snapshot with a good loss."""
        return next((point for point in reversed(self._snapshots) if point.why != LENT and point.step in self._judged_good), None)

    def add(self, step: int, why: str) -> Snapshot:
        """The point of a step, written unless it exists; the stronger reason stays.

        Raises:
            FinetuneError: it cannot be written, or the host's loader refuses it.
        """
        snapshot = self.at(step)
        if snapshot is None:
            snapshot = Snapshot(step, self._artifacts.write_snapshot(step), why)
            self._snapshots.append(snapshot)
            self._remember()  # before anything can fail, so that what is lent is always taken back
        elif _STRENGTH.index(why) > _STRENGTH.index(snapshot.why):
            self._snapshots.remove(snapshot)
            snapshot = dataclasses.replace(snapshot, why=why)
            self._snapshots.append(snapshot)
        if step not in self._verified:
            self._artifacts.verify(snapshot.files)
            self._verified.add(step)
        if why == KEPT:
            self._drop_old()
        self._remember()
        return snapshot

    def lend(self, step: int) -> Snapshot:
        """As `add` for a preview; the point lent before goes.

        Raises:
            FinetuneError: as `add`.
        """
        snapshot = self.add(step, LENT)
        self._remove([point for point in self._snapshots if point.why == LENT and point is not snapshot])
        return snapshot

    def judged(self, step: int, good: bool) -> None:
        """Take over whether the state of a snapshot is good."""
        if good:
            self._good.add(step)
            self._judged_good.add(step)

    def forsake(self, step: int) -> None:
        """Remove the files of a step after which the loss was not finite, except those that the person asked for."""
        snapshot = self.at(step)
        if snapshot is None or snapshot.why == LENT or step in self._good:
            return
        name = next(iter(snapshot.files.values())).name
        if snapshot.why == ASKED:
            self._sink.say(f"{name} holds step {step}, after which the loss was no number: it will be of no use.")
            return
        self._remove([snapshot])
        self._sink.say(f"{name} was removed: it held step {step}, after which the loss was no number.")

    def return_lent(self) -> None:
        """Remove lent files and surplus snapshots, and report the snapshots that exist."""
        self._remove([point for point in self._snapshots if point.why == LENT])
        self._drop_old()

    def _is_own(self, point: Snapshot) -> bool:
        """The index lies in a folder that others write to as well: what it names may be deleted later, so it must be what this run writes."""
        strange = [path for kind, path in point.files.items() if not self._artifacts.is_snapshot(point.step, kind, path)]
        for path in strange:
            self._sink.say(f"{self._index.name} names {path}, which is no file of this run. It is left alone.")
        return not strange and all(path.exists() for path in point.files.values())

    def _drop_old(self) -> None:
        """Remove surplus snapshots; the last good one stays, too, however many came after it."""
        regular = [snapshot for snapshot in self._snapshots if snapshot.why == KEPT]
        last_good = max((snapshot.step for snapshot in regular if snapshot.step in self._good), default=None)
        surplus = [snapshot for snapshot in regular[: -self._keep] if snapshot.step != last_good] if self._keep else []
        if surplus:
            self._remove(surplus)

    def _remove(self, points: list[Snapshot]) -> None:
        for point in points:
            self._snapshots.remove(point)
            for kind, path in point.files.items():
                self._unlink(kind, path)
        self._remember()

    def _unlink(self, kind: str, path: Path) -> None:
        """Remove files; a failure is reported and does not end the training."""
        try:
            for rest in (path, path.with_suffix(".json"), path.with_suffix(".yaml")):
                rest.unlink(missing_ok=True)
            self._files.artifact_removed(kind, path)
        except (FinetuneError, RuntimeError, OSError) as error:
            _log.warning("%s was not removed", path, exc_info=True)
            self._sink.say(f"{path.name} is not needed any more and was not removed: {error}")

    def _remember(self) -> None:
        self._snapshots.sort(key=lambda point: point.step)
        rows = [{"step": p.step, "why": p.why, "files": {kind: str(path) for kind, path in p.files.items()}} for p in self._snapshots]
        if rows or self._index.exists():
            with contextlib.suppress(SaveError):  # a full disk must not end a training, and without the index only tidying up is manual
                write_atomically(self._index, json.dumps(rows, indent=2, ensure_ascii=False).encode("utf-8"))
        self._sink.points([(point.step, list(point.files.values())) for point in self._snapshots])


_STRENGTH = (LENT, KEPT, ASKED)


def withdraw(folder: RunFolder, journal: WriteJournal, *, lent: bool) -> None:
    """Remove files that a killed run was writing and that are not in its index or not whole. Call under its lock.

    Args:
        lent: whether files lent to a preview are removed as well; a run that resumes takes them back itself.
    """
    points = _read(folder.snapshots_index)
    whole = [point for point in points if all(path.exists() for path in point.files.values())]
    staying = {path for point in whole if not (lent and point.why == LENT) for path in point.files.values()}
    written = [path for files in (*journal.points(), *(point.files for point in points)) for path in files.values()]
    for path in written:
        if path in staying or not journal.is_own(path):
            continue
        try:
            for rest in (path, path.with_suffix(".json"), path.with_suffix(".yaml")):
                rest.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("%s was not removed: %s", path, error)


def _read(index: Path) -> list[Snapshot]:
    """The snapshots that can be read; a damaged one does not hide the others, which may have to be taken back."""
    try:
        rows = json.loads(index.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, RecursionError) as error:
        _log.warning("%s cannot be read: %s", index, error)
        return []
    points = []
    for row in rows if isinstance(rows, list) else [rows]:
        try:
            points.append(_point(row))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("%s holds a point that cannot be read: %s", index, error)
    return points


def _point(row: Any) -> Snapshot:
    """
    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is none.
    """
    point = Snapshot(row["step"], {kind: Path(path) for kind, path in row["files"].items()}, row["why"])
    if type(point.step) is not int or not point.files or point.why not in _STRENGTH:
        raise ValueError("no step, no file or no reason")
    return point
