"""The files of a run: written under a free name, listed by the host and checked by its loader."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lib_finetune.assembly import builder
from lib_finetune.errors import CheckpointError, FinetuneError, HostError, SaveError
from lib_finetune.export import checkpoint_writer, extraction
from lib_finetune.export.low_rank import Keep
from lib_finetune.files import bears_name_of, write_atomically
from lib_finetune.model import tensor_file
from lib_finetune.runs.write_journal import NoJournal

if TYPE_CHECKING:
    from lib_finetune.assembly.run_plans import SavingPlan
    from lib_finetune.model.tensor_file import Entry
    from lib_finetune.ports.checkpoint import CheckpointInfo
    from lib_finetune.ports.events import ProgressSink
    from lib_finetune.ports.host import Host
    from lib_finetune.runs.write_journal import WriteJournal

_log = logging.getLogger(__name__)


def main_file(files: Mapping[str, Path]) -> Path:
    """The file that stands for the result."""
    return next(iter(files.values()))


class Artifacts:
    """Writes what a run has trained."""

    def __init__(
        self,
        plan: SavingPlan,
        assembly: builder.Assembly,
        info: CheckpointInfo,
        host: Host,
        sink: ProgressSink,
        journal: WriteJournal | None = None,
    ) -> None:
        """
        Args:
            info: the checkpoint that training began on.
            journal: of the run; None where nothing is recorded.
        """
        self._plan = plan
        self._assembly = assembly
        self._info = info
        self._host = host
        self._sink = sink
        self._journal = journal or NoJournal()

    def write_result(self, step: int, state: AbstractContextManager[None], *, replaces: bool = True) -> dict[str, Path]:
        """As `write`, under the name of the run."""
        return self.write(self._plan.name, step, state, replaces=replaces)

    def write_snapshot(self, step: int) -> dict[str, Path]:
        """As `write`, under the name of a step, with the present weights."""
        return self.write(self._snapshot_name(step), step, self._assembly.trainer.ema.applied(), point=True)

    def is_snapshot(self, step: int, kind: str, path: Path) -> bool:
        """Whether `write_snapshot` of this run can have written a file: below the host's folder of its kind, named by the run and the step."""
        target = self._plan.targets(self._host.paths, self._snapshot_name(step)).get(kind)
        return target is not None and bears_name_of(path, target)

    def _snapshot_name(self, step: int) -> str:
        return f"{self._plan.name}-{step:06d}"

    def write(
        self, name: str, step: int, state: AbstractContextManager[None], *, replaces: bool = True, point: bool = False
    ) -> dict[str, Path]:
        """Write the files of a result under a free name, or under the name that this run used for the same step before; kind → file.

        Args:
            step: steps that they hold.
            state: context in which the parameters have the values to save.
            replaces: whether older files may be replaced where the settings say so; False for a rescued result.

            point: whether it is a snapshot, of which `points.json` tells.

        Raises:
            SaveError: as the writers of the files.
        """
        config, files = self._config(), self._files_of(name, step, replaces, point)
        self.fill(files, main_file(files).stem, step, state)
        if config is not None and "checkpoint" in files:
            write_atomically(files["checkpoint"].with_suffix(".yaml"), config.read_bytes())  # the WebUI looks for it beside the file
        return files

    def _config(self) -> Path | None:
        """The file beside the base that tells the WebUI how to load it; a checkpoint made from the base needs a copy."""
        config = self._info.path.with_suffix(".yaml") if self._info.path else None
        return config if config is not None and config.is_file() else None

    def _files_of(self, name: str, step: int, replaces: bool, point: bool) -> dict[str, Path]:
        """Kind → file of a step: those that this run began to write for it before, or free ones; recorded before anything is written."""
        plan, paths, has_config = self._plan, self._host.paths, self._config() is not None

        def targets(name: str) -> list[Path]:
            files = plan.targets(paths, name)
            return [*files.values(), *([files["checkpoint"].with_suffix(".yaml")] if has_config and "checkpoint" in files else [])]

        own, usual = self._journal.planned(name, step), plan.targets(paths, name)
        if own and own.keys() == usual.keys() and all(bears_name_of(path, usual[kind]) for kind, path in own.items()):
            return {kind: own[kind] for kind in usual}
        files = plan.targets(paths, self._free(name, targets, replaces))
        self._journal.plan(name, step, files, point=point)
        return files

    def fill(self, files: Mapping[str, Path], name: str, step: int, state: AbstractContextManager[None]) -> None:
        """Write the parameters, as they are inside ``state``, to files of every kind; their metadata have ``name`` and ``step``.

        Raises:
            SaveError: as the writers of the files.
        """
        recipe = dataclasses.replace(self._assembly.recipe, name=name, steps=step)
        with state:
            artifact = self._assembly.trainer.method.artifact()
            for writer in self._plan.writers:
                writer.write(files[writer.kind], artifact, recipe, self._base)

    def verify(self, files: Mapping[str, Path]) -> None:
        """Have the host list the files, and its loader check them.

        Raises:
            HostError: the loader does not take them whole.
        """
        self._sink.stage("verify")
        for kind, path in files.items():
            verification = self._host.files.artifact_saved(kind, path, self._plan.card)
            self._sink.say(verification.message)
            if not verification.passed:
                raise HostError(f"{path.name} was written, but {verification.message[0].lower()}{verification.message[1:]}")

    def write_extracted_lora(self, path: Path, stop_asked: Callable[[], bool]) -> None:
        """Write the difference between a checkpoint and its base as a LoRA, if the settings ask for one.

        A failure is only reported, because the checkpoint is good without the LoRA.

        Args:
            stop_asked: asked before each weight; at a stop the LoRA is left out.
        """
        plan, rank = self._plan, self._plan.extract_rank
        if plan.extract is None:
            return
        target = self._extracted_file(path.stem)

        def look(done: int, total: int) -> None:
            self._sink.stage("save", done, total)
            if stop_asked():
                raise FinetuneError("a stop was asked for.")

        try:
            with self._host.lease(self._info, ("unet", "text")) as lease, self._assembly.best():
                names = builder.lora_names(self._assembly.model)
                extracted = extraction.extract(self._assembly.trainer.method.artifact(), lease.tensors, names, Keep(rank), look)
            recipe = dataclasses.replace(
                self._assembly.recipe, name=target.stem, rank=rank, alpha=float(rank), network_module="networks.lora"
            )
            plan.extract(target, extracted.tensors, recipe)
            self._host.files.artifact_saved("lora", target, dataclasses.replace(plan.card, preferred_weight=1.0))
            self._sink.say(f"{target.name} holds the difference as a LoRA of rank {rank}; {extracted.error:.0%} of it is lost.")
        except SaveError as error:
            self._sink.say(f"The difference could not be saved as a LoRA: {error}")
        except (FinetuneError, RuntimeError) as error:
            _log.warning("No LoRA was extracted", exc_info=True)
            self._sink.say(f"The difference could not be saved as a LoRA: {error}")

    def _extracted_file(self, name: str) -> Path:
        """The path of the LoRA; the same as before if the run was killed after writing it."""
        folder = self._host.paths.lora
        if own := self._journal.planned(f"extracted {name}", 0):
            return own["lora"]
        target = folder / f"{self._free(name, lambda name: [folder / f'{name}.safetensors'])}.safetensors"
        self._journal.plan(f"extracted {name}", 0, {"lora": target})
        return target

    def _free(self, name: str, files: Callable[[str], Iterable[Path]], replaces: bool = True) -> str:
        """``name``, or with a number behind it when one of its files was taken meanwhile and may not be replaced."""
        number = 2
        free = name
        while any(path.exists() for path in files(free)) and not (replaces and self._plan.overwrite):
            free = f"{name}-{number}"
            number += 1
        return free

    @contextmanager
    def _base(self) -> Iterator[Mapping[str, Entry]]:
        """The tensors of the base checkpoint: from its file if the file is still the one on which the run began, else from the host's memory."""
        info = self._info
        with ExitStack() as stack:
            entries: Mapping[str, Entry] | None = None
            if info.path and checkpoint_writer.usable(info.path, info.sha256):
                try:
                    entries = stack.enter_context(checkpoint_writer.opened(info.path))
                except CheckpointError as error:
                    self._sink.say(f"What was not trained is written from memory: {error}")
            else:
                self._sink.say(f"The file of {info.name} is gone or has changed: what was not trained is written from memory.")
            if entries is None:
                lease = stack.enter_context(self._host.lease(info))
                entries = {name: tensor_file.entry(tensor) for name, tensor in lease.tensors.items()}
            yield entries
