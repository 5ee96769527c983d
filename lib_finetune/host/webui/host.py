"""The WebUI as a host: its loaded checkpoint, its queue, its folders and its own loaders.

Threads: `paths`, `device`, `checkpoint`, `refusals`, `text_tools`, `memory`, `captions.captioners` and `captions.face` may be asked from any
thread (`checkpoint`, `refusals` and `text_tools` wait while the WebUI loads its first checkpoint). All else belongs to the job's thread, and
everything but `between_turns` and `files.card_picture` takes the turn, so none of it may be called inside a lease.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from lib_finetune.errors import FinetuneError, OutOfMemoryError, is_out_of_memory
from lib_finetune.host import memory
from lib_finetune.host.webui import loading, scripts_at_rest, weights
from lib_finetune.host.webui.borrowing import Around, Borrowing
from lib_finetune.host.webui.captions import WebuiCaptions
from lib_finetune.host.webui.files import WebuiFiles
from lib_finetune.host.webui.loading import await_model, loaded_model
from lib_finetune.host.webui.modules import webui
from lib_finetune.host.webui.pictures import WebuiPictures
from lib_finetune.host.webui.run_guard import RunGuard, refuse_other_than
from lib_finetune.host.webui.turn import Turn
from lib_finetune.host.webui.watch import Watch
from lib_finetune.ports.checkpoint import CheckpointInfo
from lib_finetune.ports.files import Paths
from lib_finetune.ports.host import MemoryUse, Restoration
from lib_finetune.ports.lease import Lease, TextTools
from lib_finetune.ports.pictures import PICTURE_BYTES
from lib_finetune.ports.processes import ALONE, Processes


class WebuiHost:
    """Implements `ports.Host` inside the WebUI's process. Holds no reference to the WebUI's model between calls."""

    processes: Processes = ALONE

    def __init__(self) -> None:
        turn = Turn(webui("call_queue").queue_lock)
        self._guard = RunGuard(turn)
        self._turn = turn
        self.files = WebuiFiles(turn)
        self.pictures = WebuiPictures(self._guard)
        self.captions = WebuiCaptions(turn)

    @property
    def paths(self) -> Paths:
        """See `HostWeights.paths`; the WebUI's flags --lora-dir, --ckpt-dir, --embeddings-dir and --data-dir count."""
        flags, places = webui("shared").cmd_opts, webui("paths")
        models = Path(places.models_path)
        lora = getattr(flags, "lora_dir", None) or models / "Lora"  # the flag is the Lora extension's, which may be off
        checkpoints = getattr(flags, "ckpt_dir", None) or models / "Stable-diffusion"
        folders = (lora, checkpoints, flags.embeddings_dir, Path(places.data_path) / ".finetune")
        return Paths(*(Path(folder).absolute() for folder in folders))

    @property
    def device(self) -> torch.device:
        """See `HostWeights.device`."""
        return torch.device(webui("devices").device)

    def refusals(self) -> list[str]:
        """See `HostWeights.refusals`."""
        return loading.refusals()

    def checkpoint(self) -> CheckpointInfo:
        """See `HostWeights.checkpoint`.

        Raises:
            HostError: none is loaded.
        """
        await_model()
        return loading.info()

    def text_tools(self) -> TextTools:
        """See `HostWeights.text_tools`.

        Raises:
            HostError: no checkpoint is loaded.
        """
        await_model()
        return loading.text_tools()

    @contextmanager
    def lease(
        self, checkpoint: CheckpointInfo | None = None, parts: Iterable[str] = weights.PARTS, *, alone: bool = False
    ) -> Iterator[Lease]:
        """See `HostWeights.lease`.

        Raises:
            CheckpointChangedError: another checkpoint or VAE is loaded.
            HostError: the model cannot be borrowed.
            OutOfMemoryError: the device has no room for the parts.
            WeightsChangedError: in an earlier turn of the run, or in this one; the latter when the lease ends.
        """
        await_model()
        with self._turn.held():
            if checkpoint is not None:
                refuse_other_than(checkpoint)
            self._guard.refuse_broken()
            borrowing = Borrowing(self._guard.watch)
            try:
                taken = _take(borrowing, tuple(parts), self.device, alone)
                if isinstance(taken, FinetuneError):
                    raise taken
                yield taken
            finally:
                borrowing.give_back()
                memory.hand_over(self.device, PICTURE_BYTES)
            self._guard.refuse_broken()  # before what was learned in this turn is saved

    def waiting(self) -> bool:
        """See `HostWeights.waiting`."""
        return self._turn.waited_for()

    def between_turns(self) -> None:
        """See `HostWeights.between_turns`: those that waited at the end of the lease have been handed the turn already."""
        self._turn.pause()

    def load(self, checkpoint: CheckpointInfo) -> None:
        """See `HostWeights.load`; the WebUI's settings follow, so that its next image does not switch back.

        Raises:
            HostError: it is gone or does not load.
        """
        await_model()
        with self._turn.held():
            loading.load(checkpoint)

    def remember(self) -> Sequence[str]:
        """See `HostWeights.remember`. Takes the time of a digest of all weights.

        Raises:
            HostError: no checkpoint is loaded.
        """
        await_model()
        memory.reset_peak(self.device)
        with self._turn.held():
            weights.clean(loaded_model())
            self._guard.watch = Watch(loaded_model(), loading.info())
            return scripts_at_rest.switched_on()

    def restoration(self) -> Restoration:
        """See `HostWeights.restoration`. Without a `remember` before it there is nothing to tell; ends the watch.

        If the person has loaded another checkpoint, the weights that we used are gone: then only the comparisons of the turns count.
        """
        memory.let_go_of_all(self.device)
        start = time.monotonic()
        watch, self._guard.watch = self._guard.watch, None
        if watch is None:
            return Restoration()
        with self._turn.held():
            weights.settle(loaded_model())
            equal = _compare(watch)
            differences = watch.differences()
        return Restoration(tuple(differences), equal, time.monotonic() - start)

    def memory(self) -> MemoryUse:
        """See `HostWeights.memory`."""
        return memory.use(self.device)


def _take(borrowing: Borrowing, parts: Iterable[str], device: torch.device, alone: bool) -> Lease | FinetuneError:
    """An error is returned and not raised: its frames would hold the model, and a job keeps its errors to show them."""
    try:
        return borrowing.take(loaded_model(), parts, device, alone)
    except FinetuneError as error:
        return error.with_traceback(None)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return OutOfMemoryError(f"The device has no room for {', '.join(parts)} beside what it holds: {str(error).split('. ')[0]}.")


def _compare(watch: Watch) -> int:
    """The number of equal weights; 0 if the weights that we used are gone because the person has loaded another checkpoint."""
    model = loaded_model()
    if model is None or loading.info().identity != watch.checkpoint.identity:
        return 0
    around = Around(model, watch)
    weights.clean(model)
    equal = watch.compare_weights(model)
    around.close()
    return equal
