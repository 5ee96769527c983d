"""Tools for files of LoRA: one extracted from a DreamBooth result, one resized; each made between two trainings, and checked by the host's loader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_finetune.app import extracted_lora, resized_lora
from lib_finetune.app.written_lora import Stopped, WrittenLora
from lib_finetune.config.validation import name_faults
from lib_finetune.errors import HostError, InputError, Problem
from lib_finetune.export import lora_file
from lib_finetune.export.low_rank import Keep
from lib_finetune.files import at_home, pasted_path, same_place

if TYPE_CHECKING:
    from lib_finetune.access import Folders
    from lib_finetune.jobs.background_task import BackgroundTask
    from lib_finetune.jobs.queue import Jobs

EXTRACT, RESIZE = "extract", "resize"
PRECISIONS = ("fp16", "bf16", "fp32")
_CHECKPOINTS, _LORAS = (".safetensors", ".ckpt"), (".safetensors", ".pt", ".ckpt")
_HIGHEST_RANK = 1280
"""No layer of SD1.x has a shorter side that is longer."""


class LoraTools:
    """Any thread. What is asked for is looked at at once; the work is a background task."""

    def __init__(self, jobs: Jobs, folders: Folders) -> None:
        """
        Args:
            folders: those that requests may name, beside the host's own.
        """
        self._jobs = jobs
        self._host = jobs.host
        self._folders = folders

    def choices(self) -> dict[str, list[str]]:
        """ "checkpoint" and "lora" → the names of the files in the host's folders, as `extract` and `resize` take them."""
        paths = self._host.paths
        return {"checkpoint": _names(paths.checkpoints, _CHECKPOINTS), "lora": _names(paths.lora, _LORAS)}

    def extract(
        self,
        checkpoint: str,
        base: str = "",
        name: str = "",
        rank: Any = None,
        share: Any = None,
        *,
        conv: bool = False,
        precision: str = "fp16",
    ) -> BackgroundTask:
        """Have the difference between a DreamBooth result and its base written as a LoRA.

        Args:
            checkpoint, base: names of `choices`, or paths; without a base, the file that the result says it was trained on.
            name: of the LoRA; "" for one after the checkpoint.
            rank, share: see `Keep`; numbers, or texts as a person types them.
            conv: whether the convolutions outside of attention are in it, too (as a LoCon).

        Raises:
            InputError: everything that is wrong with what is asked for.
        """
        problems: list[Problem] = []
        result = self._file(checkpoint, "checkpoint", problems)
        base_file = self._file(base, "base", problems) if base.strip() else None
        keep = _keep(rank, share, problems)
        target = self._target(name, f"{result.stem}-lora" if result else "lora", problems)
        _refuse(problems, precision)
        assert result is not None
        assert target is not None
        wish = extracted_lora.ExtractionWish(
            result, base_file or extracted_lora.base_of(result, self._host.paths.checkpoints), keep, precision, conv
        )
        return self._task(EXTRACT, target, lambda progress: extracted_lora.made(wish, target.stem, progress), precision)

    def resize(self, lora: str, name: str = "", rank: Any = None, share: Any = None, *, precision: str = "fp16") -> BackgroundTask:
        """Have a LoRA written with patches of another rank; arguments as of `extract`.

        Raises:
            InputError: everything that is wrong with what is asked for.
        """
        problems: list[Problem] = []
        source = self._file(lora, "lora", problems)
        keep = _keep(rank, share, problems)
        target = self._target(name, f"{source.stem}-resized" if source else "lora", problems)
        _refuse(problems, precision)
        assert source is not None
        assert target is not None
        return self._task(RESIZE, target, lambda progress: resized_lora.made(source, keep, precision, target.stem, progress), precision)

    def _task(self, kind: str, target: Path, make: Callable[[Callable[[int, int], None]], WrittenLora], precision: str) -> BackgroundTask:
        def work(task: BackgroundTask) -> Mapping[str, Any]:
            def progress(done: int, total: int) -> None:
                task.progress(done, total)
                if task.stop_asked():
                    raise Stopped

            try:
                lora = make(progress)
            except Stopped:
                return {}
            lora_file.refuse_taken(target, overwrite=None)  # a while has passed
            lora_file.write(target, lora.tensors, lora.metadata, precision, lora.words)
            verification = self._host.files.artifact_saved("lora", target, lora.card)
            if not verification.passed:
                raise HostError(f"{target.name} was written, but {verification.message[0].lower()}{verification.message[1:]}")
            return {"file": target.name, "bytes": target.stat().st_size, "lines": [*lora.lines, verification.message], "lost": lora.lost}

        return self._jobs.tasks.add(kind, work, target.name)

    def _file(self, text: str, field: str, problems: list[Problem]) -> Path | None:
        """A file by its name in the host's folder, or by its path."""
        folder, endings = (self._host.paths.lora, _LORAS) if field == "lora" else (self._host.paths.checkpoints, _CHECKPOINTS)
        bare = pasted_path(text.strip())
        if not bare:
            what = "a LoRA" if field == "lora" else "a checkpoint"
            problems.append(Problem(field, f"is empty. Choose {what} from the list, or write the path of its file."))
            return None
        for path in (folder / f"{bare}{end}" for end in ("", *endings)):
            if path.is_file() and same_place(folder, path):
                return path
        path = at_home(bare)
        try:
            self._folders.check(str(path), field)
        except InputError as error:
            problems += error.problems
            return None
        if not path.is_file():
            problems.append(Problem(field, f"{bare} is neither a file of {folder} nor the path of one. Choose one from the list."))
            return None
        return path

    def _target(self, name: str, otherwise: str, problems: list[Problem]) -> Path | None:
        stem = name.strip() or otherwise
        if faults := name_faults(stem):
            problems += [Problem("name", fault) for fault in faults]
            return None
        path = self._host.paths.lora / f"{stem}.safetensors"
        try:
            lora_file.refuse_taken(path, overwrite=None)
        except InputError as error:
            problems += error.problems
        return path


def _refuse(problems: list[Problem], precision: str) -> None:
    """
    Raises:
        InputError: there are problems.
    """
    if precision not in PRECISIONS:
        problems.append(Problem("precision", f"{precision!r} is none of {', '.join(PRECISIONS)}."))
    if problems:
        raise InputError(problems)


def _keep(rank: Any, share: Any, problems: list[Problem]) -> Keep:
    """What is kept, from numbers or from what was typed."""
    most, part = _number(rank), _number(share)
    if rank not in (None, "") and (most is None or most != int(most) or not 1 <= most <= _HIGHEST_RANK):
        problems.append(Problem("rank", f"{rank!r} is no whole number from 1 to {_HIGHEST_RANK}. Write for example 32."))
    if share not in (None, "") and (part is None or not 0 < part <= 1):
        advice = f"For {part:g} percent write {part / 100:g}." if part and 1 < part <= 100 else "Write for example 0.9."
        problems.append(Problem("share", f"{share!r} is no share above 0, at most 1. {advice}"))
    if rank in (None, "") and share in (None, ""):
        problems.append(Problem("rank", "is empty, and so is the share. Write a rank, for example 32, or a share such as 0.9."))
    return Keep(int(most) if most and not problems else None, part)


def _number(value: Any) -> float | None:
    """None for what is no finite number."""
    if isinstance(value, bool):
        return None
    try:
        number = float(str(value).strip().replace(",", "."))
    except ValueError:
        return None
    return number if abs(number) < 1e9 else None


def _names(folder: Path, endings: tuple[str, ...]) -> list[str]:
    """Names below a folder, with the folders between, newest first."""
    files = [path for path in folder.rglob("*") if path.suffix.lower() in endings and path.is_file()] if folder.is_dir() else []
    return [path.relative_to(folder).as_posix() for path in sorted(files, key=lambda path: -path.stat().st_mtime)]
