"""Turns: the job holds the host for about a second, and longer while nobody waits; then others have it. A turn ends with a step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

from lib_finetune.errors import CheckpointChangedError, let_go
from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.ports.checkpoint import CheckpointInfo
from lib_finetune.ports.host import HostWeights
from lib_finetune.ports.lease import Lease
from lib_finetune.training.model_swap import ModelSwap

TURN_S = 1.0
LONGEST_S = 30.0
"""After so long a turn ends even if nobody waits, so that the host's weights are looked at again: some things change them without asking."""


class Turns:
    """Opens a turn when a step needs one, and closes it when its time is over and somebody waits."""

    def __init__(
        self,
        host: HostWeights,
        checkpoint: CheckpointInfo,
        model: BorrowedModel,
        on_changed: Callable[[CheckpointChangedError], None],
        turn_s: float = TURN_S,
    ) -> None:
        """
        Args:
            checkpoint: the checkpoint that training began on.
            model: the view, which is bound anew to the host's storage in each turn.
            on_changed: called while another checkpoint is loaded, again and again until that one is back; it waits,
                loads it, or raises to end the run.
            turn_s: seconds after which a turn ends with the step that runs, if somebody waits for the host then or after any later step.
        """
        self._host = host
        self._checkpoint = checkpoint
        self._model = model
        self._on_changed = on_changed
        self._turn_s = turn_s
        self._stack: ExitStack | None = None
        self._ends = self._ends_at_last = self._acts = 0.0
        self._closing: list[Callable[[], None]] = []
        self._swap: ModelSwap | None = None
        self.parts: tuple[str, ...] = ("unet", "text", "vae")
        self.count = 0
        self._moved_s = 0.0

    def before_close(self, action: Callable[[], None]) -> None:
        """Have ``action`` run at the end of every turn while it still holds (a place to read scalars off the device)."""
        self._closing.append(action)

    def use(self, parts: Iterable[str], swap: ModelSwap | None = None) -> None:
        """Which parts of the model the next turns need on the device.

        Args:
            exchange: what is trained comes to the device with each turn and leaves it with its end, and the host's other
                parts the other way about. A turn then lasts until somebody waits for the host, however long that is, and at least
                as long as the last exchange took.
        """
        self.close()
        self.parts = tuple(parts)
        self._swap = swap

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around one step: inside, the view is bound. An exception ends the turn."""
        if self._stack is None:
            self._open()
        try:
            yield
        except BaseException as error:
            self._fail(error)
            raise
        now = time.monotonic()
        if now < self._ends:
            return
        if self._host.waiting() or (now >= self._ends_at_last and not self._swap):
            self.close()
        elif now >= self._acts:
            self._act()
            self._acts = time.monotonic() + self._turn_s

    @contextmanager
    def between_steps(self) -> Iterator[None]:
        """Around work that needs no turn except through `apart`. An exception ends an open turn."""
        try:
            yield
        except BaseException as error:
            self._fail(error)
            raise

    @contextmanager
    def apart(self, part: str) -> Iterator[None]:
        """Inside, a part of the model is bound on its device: in the open turn if that has the part, else in a turn for this part alone."""
        if part in self.parts if self._stack is not None else self._model.is_bound:  # by whoever made the objects of the run
            yield
            return
        parts, swap = self.parts, self._swap
        self.use((part,))
        try:
            with self.step():
                yield
        finally:
            self.use(parts, swap)

    def _fail(self, error: BaseException) -> None:
        """End the turn after an error. The frames below hold tensors, and the next turn needs the room."""
        let_go(error)
        self._leave()

    def close(self) -> None:
        """End an open turn, and let waiting threads have theirs."""
        if self._stack is None:
            return
        self._act()
        self._leave()
        self._host.between_turns()

    def _act(self) -> None:
        """Do what is due at the end of a turn, or after each second of a long one; an error ends the turn."""
        try:
            for action in self._closing:
                action()
        except BaseException:
            self._leave()
            raise

    def _open(self) -> None:
        while True:
            stack = ExitStack()
            try:
                lease: Lease = stack.enter_context(self._host.lease(self._checkpoint, self.parts, alone=self._swap is not None))
            except CheckpointChangedError as changed:
                self._on_changed(changed)
                continue
            with stack:
                self._come(lease.moved_s, stack)
                stack.enter_context(self._model.bound(lease.tensors))
                self._stack = stack.pop_all()
            now = time.monotonic()
            self._ends = self._acts = now + max(self._turn_s, self._swap.seconds if self._swap else 0.0)
            self._ends_at_last = now + max(LONGEST_S, self._turn_s)
            self.count += 1
            return

    def _come(self, moved_s: float, stack: ExitStack) -> None:
        if self._swap is None:
            return
        start = time.monotonic()
        stack.callback(self._swap.leave)
        self._swap.come()
        self._moved_s = moved_s + time.monotonic() - start

    def _leave(self) -> None:
        stack, self._stack = self._stack, None
        if stack is None:
            return
        start = time.monotonic()
        stack.close()
        if self._swap:
            self._swap.took(self._moved_s + time.monotonic() - start)
