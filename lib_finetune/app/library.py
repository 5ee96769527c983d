"""The files made here, wherever they lie now: listed, given out, and deleted with what belongs to them."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_finetune.app.results import beside, is_own, remove
from lib_finetune.app.settings_files import METADATA_KEY
from lib_finetune.app.training_files import TrainingFiles, everything_of, files_of
from lib_finetune.app.written_lora import TOOL_KEY
from lib_finetune.errors import InputError, Problem
from lib_finetune.model import tensor_file

if TYPE_CHECKING:
    from lib_finetune.jobs.job import Job
    from lib_finetune.jobs.queue import Jobs

_HEADER_BYTES = 16 << 20
_BASES = ("ss_sd_model_name", "sd_checkpoint_name", "finetune_base")
_PICTURES = (".preview.png", ".png")


class Library:
    """Files in the host's folders whose metadata tells that they were made here, and those that jobs tell of. Any thread."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._host = jobs.host
        self._lock = threading.Lock()
        self._read: dict[Path, tuple[tuple[int, int], dict[str, str] | None]] = {}

    def entries(self) -> list[dict[str, Any]]:
        """Every file, newest first: "token", "kind", "name", "file", "folder", "bytes", "changed" (seconds since 1970), "base" (checkpoint),
        "call" (what uses it in a prompt), "picture" (its time of change, 0 for none), and "job" (id, "" for none that is known)."""
        jobs = self._jobs_by_file()
        entries = [self._entry(kind, path, metadata, jobs.get(path)) for kind, path, metadata in self._files(jobs)]
        return sorted(entries, key=lambda entry: -entry["changed"])

    def file(self, token: str) -> Path:
        """A file by its token.

        Raises:
            InputError: there is none.
        """
        return self._known(token)[1]

    def picture(self, token: str) -> Path:
        """The image on its card.

        Raises:
            InputError: there is none.
        """
        path = self.file(token)
        picture = _picture(path, self._jobs_by_file().get(path))
        if picture is None:
            raise InputError([Problem("file", "The file has no image.")])
        return picture

    def delete(self, token: str) -> str:
        """Delete a file and its sidecar files (card, picture, configuration); returns its name.

        Raises:
            InputError: there is none.
        """
        kind, path = self._known(token)
        remove({kind: path}, self._host)
        return path.name

    def everything(self, name: str) -> dict[str, Any]:
        """What `delete_training` takes away: "name", "parts" (see `TrainingFiles.parts`), "bytes" in all, and "stays" (sentences).

        Raises:
            InputError: there is no such job, or it has not ended.
        """
        job, files = self._files_of_ended(name)
        parts = files.parts()
        return {"name": job.settings.name, "parts": parts, "bytes": sum(part["bytes"] for part in parts), "stays": list(files.stays)}

    def delete_training(self, name: str) -> str:
        """Delete everything of a training: its results and snapshots with what lies beside them, its log, states and previews, and, where no
        other training uses them, its dropped images, its encoded images and its class images; returns its name.

        Raises:
            InputError: there is no such job, or it has not ended.
            InUseError: another program resumes it.
        """
        job, files = self._files_of_ended(name)
        self._jobs.forget(name)  # first: it is refused where another program works on the run
        for kind, path in files.results:
            remove({kind: path}, self._host)
        files.remove_shared()
        return job.settings.name

    def _files_of_ended(self, name: str) -> tuple[Job, TrainingFiles]:
        job = self._jobs.known.find(name)
        if not job.ended:
            raise InputError([Problem("id", f"{job.settings.name} has not ended. Stop it first.")])
        return job, everything_of(job, self._jobs.known.all(), self._host)

    def _jobs_by_file(self) -> dict[Path, Job]:
        known = self._jobs.known.all()
        return {path: job for job in known for kind, path in files_of(job) if is_own(job, self._host, kind, path)}

    def _known(self, token: str) -> tuple[str, Path]:
        jobs = self._jobs_by_file()
        known = next(((kind, path) for kind, path, _ in self._files(jobs) if _token(path) == token), None)
        if known is None:
            raise InputError([Problem("file", "This file is not there any more. Look at the library again.")])
        return known

    def _files(self, jobs: Mapping[Path, Job]) -> Iterator[tuple[str, Path, Mapping[str, str]]]:
        """(kind, file, metadata) of those in the host's folders that were made here."""
        paths = self._host.paths
        for kind, folder in (("lora", paths.lora), ("checkpoint", paths.checkpoints), ("embedding", paths.embeddings)):
            for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
                if path.suffix == ".safetensors" and (metadata := self._metadata(path)) is not None:
                    yield kind, path, metadata
                elif path.suffix in (".ckpt", ".pt") and path in jobs and path.is_file():
                    yield kind, path, {}

    def _metadata(self, path: Path) -> dict[str, str] | None:
        """Metadata of a file that was made here, None of any other; read once while the file stays as it is."""
        try:
            about = path.stat()
        except OSError:
            return None
        stamp = (about.st_mtime_ns, about.st_size)
        with self._lock:
            known = self._read.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        metadata = _metadata_in(path)
        with self._lock:
            self._read[path] = (stamp, metadata)
        return metadata

    def _entry(self, kind: str, path: Path, metadata: Mapping[str, str], job: Job | None) -> dict[str, Any]:
        about, picture = path.stat(), _picture(path, job)
        base = next((metadata[name] for name in _BASES if metadata.get(name)), "")
        return {
            "token": _token(path),
            "kind": kind,
            "name": path.stem,
            "file": path.name,
            "folder": str(path.parent),
            "bytes": about.st_size,
            "changed": about.st_mtime,
            "base": base,
            "call": _call(kind, path),
            "picture": int(picture.stat().st_mtime) if picture else 0,
            "job": job.folder.name if job is not None and job.ended else "",
        }


def _metadata_in(path: Path) -> dict[str, str] | None:
    try:
        with path.open("rb") as file:
            head = file.read(8)
            size = int.from_bytes(head, "little")
            if len(head) < 8 or size > _HEADER_BYTES:
                return None
            metadata = tensor_file.metadata_in(head + file.read(size))
    except (OSError, ValueError):  # not readable, or of a form that is not ours
        return None
    return metadata if METADATA_KEY in metadata or TOOL_KEY in metadata else None


def _picture(path: Path, job: Job | None) -> Path | None:
    """The image beside a file; where there is none, as of a snapshot, the preview of its step or the last one before it."""
    own = next((file for file in (path.with_name(path.stem + end) for end in _PICTURES) if file in beside(path)), None)
    if own is not None or job is None:
        return own
    files_by_step = {**job.record.points, str(job.record.steps): job.record.files}
    step = next((int(step) for step, files in files_by_step.items() if str(path) in files.values()), None)
    previews = sorted((job.folder / "previews").glob("*/*.png")) if step is not None else []
    shown = [file for file in previews if file.parent.name.isdigit() and 0 < int(file.parent.name) <= (step or 0)]
    return min((file for file in shown if file.parent == shown[-1].parent), default=None)


def _call(kind: str, path: Path) -> str:
    """What uses a file in a prompt, as its card tells; "" for a checkpoint, which is chosen from the list."""
    if kind == "checkpoint":
        return ""
    if kind == "embedding":
        return path.stem
    try:
        card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        weight, words = float(card.get("preferred weight") or 1), str(card.get("activation text") or "")
    except (OSError, ValueError, TypeError, AttributeError):  # no card, or one that somebody changed
        weight, words = 1.0, ""
    return f"<lora:{path.stem}:{weight:g}> {words}".strip()


def _token(path: Path) -> str:
    return hashlib.sha256(str(path).encode("utf-8", "surrogatepass")).hexdigest()[:24]
