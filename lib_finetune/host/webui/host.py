"""The WebUI as a host: its loaded checkpoint, its queue, its folders and its own loaders.

Threads: `paths`, `device`, `checkpoint`, `refusals`, `text_tools`, `captioners`, `face` and `memory` may be asked from any thread (`checkpoint`,
`refusals` and `text_tools` wait while the WebUI loads its first checkpoint). All else belongs to the job's thread, and
everything but `between_turns` and `card_picture` takes the turn, so none of it may be called inside a lease.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lib_finetune import randomness
from lib_finetune.errors import CheckpointChangedError, FinetuneError, OutOfMemoryError, WeightsChangedError
from lib_finetune.export import card as cards
from lib_finetune.host import memory
from lib_finetune.host.webui import captions, faces, files, loading, picture, scripts_at_rest, weights
from lib_finetune.host.webui.borrowing import Around, Borrowing
from lib_finetune.host.webui.loading import await_model, loaded_model
from lib_finetune.host.webui.modules import webui
from lib_finetune.host.webui.turn import Turn
from lib_finetune.host.webui.watch import Watch
from lib_finetune.ports.checkpoint import CheckpointInfo
from lib_finetune.ports.files import Card, Paths, Verification
from lib_finetune.ports.host import MemoryUse, Restoration
from lib_finetune.ports.lease import Lease, TextTools
from lib_finetune.ports.pictures import PictureRequest

if TYPE_CHECKING:
    from PIL import Image

_log = logging.getLogger(__name__)


class WebuiHost:
    """Implements `ports.Host` inside the WebUI's process. Holds no reference to the WebUI's model between calls."""

    def __init__(self) -> None:
        self._turn = Turn(webui("call_queue").queue_lock)
        self._watch: Watch | None = None

    @property
    def paths(self) -> Paths:
        """See `Host.paths`; the WebUI's flags --lora-dir, --ckpt-dir, --embeddings-dir and --data-dir count."""
        flags, places = webui("shared").cmd_opts, webui("paths")
        models = Path(places.models_path)
        lora = getattr(flags, "lora_dir", None) or models / "Lora"  # the flag is the Lora extension's, which may be off
        checkpoints = getattr(flags, "ckpt_dir", None) or models / "Stable-diffusion"
        found = (lora, checkpoints, flags.embeddings_dir, Path(places.data_path) / ".finetune")
        return Paths(*(Path(place).absolute() for place in found))

    @property
    def device(self) -> torch.device:
        """See `Host.device`."""
        return torch.device(webui("devices").device)

    def refusals(self) -> list[str]:
        """See `Host.refusals`."""
        return loading.refusals()

    def checkpoint(self) -> CheckpointInfo:
        """See `Host.checkpoint`.

        Raises:
            HostError: none is loaded.
        """
        await_model()
        return loading.info()

    def text_tools(self) -> TextTools:
        """See `Host.text_tools`.

        Raises:
            HostError: no checkpoint is loaded.
        """
        await_model()
        return loading.text_tools()

    @contextmanager
    def lease(self, wanted: CheckpointInfo | None = None, parts: Iterable[str] = weights.PARTS, *, alone: bool = False) -> Iterator[Lease]:
        """See `Host.lease`.

        Raises:
            CheckpointChangedError: another checkpoint or VAE is loaded.
            HostError: the model cannot be borrowed.
            OutOfMemoryError: the device has no room for the parts.
            WeightsChangedError: in an earlier turn of the run, or in this one; the latter when the lease ends.
        """
        await_model()
        with self._turn.held():
            if wanted is not None:
                _check(wanted)
            _refuse_broken(self._watch)
            borrowing = Borrowing(self._watch)
            try:
                taken = _take(borrowing, tuple(parts), self.device, alone)
                if isinstance(taken, FinetuneError):
                    raise taken
                yield taken
            finally:
                borrowing.give_back()
            _refuse_broken(self._watch)  # before what was learned in this turn is saved

    def waiting(self) -> bool:
        """See `Host.waiting`."""
        return self._turn.waited_for()

    def between_turns(self) -> None:
        """See `Host.between_turns`: those that waited at the end of the lease have been handed the turn already."""
        self._turn.pause()

    def load(self, wanted: CheckpointInfo) -> None:
        """See `Host.load`; the WebUI's settings follow, so that its next picture does not switch back.

        Raises:
            HostError: it is gone or does not load.
        """
        await_model()
        with self._turn.held():
            loading.load(wanted)

    def remember(self) -> Sequence[str]:
        """See `Host.remember`. Takes the time of a digest of all weights.

        Raises:
            HostError: no checkpoint is loaded.
        """
        await_model()
        memory.reset_peak(self.device)
        with self._turn.held():
            weights.clean(loaded_model())
            self._watch = Watch(loaded_model(), loading.info())
            return scripts_at_rest.switched_on()

    def restoration(self) -> Restoration:
        """See `Host.restoration`. Without a `remember` before it there is nothing to tell; ends the watch.

        When the person has another checkpoint loaded by now, the weights that we used are gone: then the turns alone speak.
        """
        start = time.monotonic()
        watch, self._watch = self._watch, None
        if watch is None:
            return Restoration()
        with self._turn.held():
            weights.settle(loaded_model())
            equal = _compare(watch)
            found = watch.differences()
        return Restoration(tuple(found), equal, time.monotonic() - start)

    def artifact_saved(self, kind: str, path: Path, card: Card) -> Verification:
        """See `Host.artifact_saved`.

        Raises:
            HostError: no checkpoint is loaded, so the loader cannot judge.
            SaveError: the card cannot be written.
        """
        cards.write_card(path, card)
        await_model()
        with self._turn.held(), randomness.kept():  # the loader makes layers, which draw their first values
            return files.announce(kind, path, loaded_model())

    def artifact_removed(self, kind: str, path: Path) -> None:
        """See `Host.artifact_removed`.

        Raises:
            HostError: no checkpoint is loaded.
        """
        await_model()
        with self._turn.held():
            files.withdraw(kind, path, loaded_model())

    def card_picture(self, kind: str, path: Path, image: Image.Image) -> None:
        """See `Host.card_picture`.

        Raises:
            SaveError: the picture cannot be written.
        """
        cards.write_picture(path, kind, image)

    def picture(self, request: PictureRequest) -> Image.Image:
        """See `pictures`."""
        return self.pictures(request, 1)[0]

    def pictures(self, request: PictureRequest, count: int) -> list[Image.Image]:
        """See `Host.pictures`. While a run is on, they are made with the run's checkpoint or not at all.

        Raises:
            CheckpointChangedError: another checkpoint or VAE is loaded than at `remember`.
            HostError: a LoRA is not in the WebUI's list, the WebUI could not make the picture, or the model's weights were changed meanwhile.
            OutOfMemoryError: the device has no room for it.
            PictureInterruptedError: the request asked for that, also while the turn was waited for, or the person pressed Interrupt.
        """
        await_model()
        with self._turn.held(give_up=request.interrupt_asked):
            if self._watch is not None:
                _check(self._watch.checkpoint)
            _refuse_broken(self._watch)
            made = _make(request, count, self._watch)
            _refuse_broken(self._watch)
        if isinstance(made, FinetuneError):
            raise made
        return made

    def captioners(self) -> Sequence[str]:
        """See `Host.captioners`."""
        return captions.captioners()

    def describe(self, captioner: str, image: Image.Image) -> str:
        """See `Host.describe`.

        Raises:
            HostError: the WebUI could not run it.
            OutOfMemoryError: the device has no room for it.
        """
        await_model()
        with self._turn.held():
            return captions.describe(captioner, image)

    def face(self, image: Image.Image) -> tuple[float, float] | None:
        """See `Host.face`.

        Raises:
            InputError: the WebUI's face finder cannot be used.
        """
        return faces.face(image)

    def memory(self) -> MemoryUse:
        """See `Host.memory`."""
        return memory.use(self.device)


def _check(wanted: CheckpointInfo) -> None:
    loaded = loading.info()
    if loaded.identity != wanted.identity:
        raise CheckpointChangedError(str(wanted), str(loaded))


def _refuse_broken(watch: Watch | None) -> None:
    if watch is not None and watch.broken:
        raise WeightsChangedError(str(watch.broken), in_training=watch.broken.in_training)  # anew: its frames would pile up


# The two below return an error and do not raise it: its frames would hold the model, and a job keeps its errors to show them.


def _take(borrowing: Borrowing, parts: Iterable[str], device: torch.device, alone: bool) -> Lease | FinetuneError:
    try:
        return borrowing.take(loaded_model(), parts, device, alone)
    except torch.cuda.OutOfMemoryError as error:
        return OutOfMemoryError(f"The device has no room for {', '.join(parts)} beside what it holds: {str(error).split('. ')[0]}.")
    except FinetuneError as error:
        return error.with_traceback(None)


def _make(request: PictureRequest, count: int, watch: Watch | None) -> list[Image.Image] | FinetuneError:
    model = loaded_model()
    around = Around(model, watch)
    if watch is not None:
        weights.clean(model)
        watch.turn_begins(model)
    try:
        return picture.make(request, count, model, around.theirs())
    except FinetuneError as error:
        _log.info("No preview", exc_info=True)
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)
    finally:
        around.close()
        if watch is not None:
            watch.picture_made(model)


def _compare(watch: Watch) -> int:
    """How many weights are equal, or 0 when those that we used are gone because the person has another checkpoint loaded."""
    model = loaded_model()
    if model is None or loading.info().identity != watch.checkpoint.identity:
        return 0
    around = Around(model, watch)
    weights.clean(model)
    equal = watch.compare_weights(model)
    around.close()
    return equal
