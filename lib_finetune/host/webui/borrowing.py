"""One borrowing of the host's model: taken at the start of a turn, given back at its end in every case."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from lib_finetune.host.webui import remembered_state, weights
from lib_finetune.host.webui.watch import Watch
from lib_finetune.ports.lease import Lease


class Borrowing:
    """Holds the model from `take` to `give_back` and not a moment longer.

    It is an object with two methods and no nest of context managers because an exception keeps the local variables of
    every frame that it passes through: one held by a job that reports it would keep the host's weights in memory.
    """

    def __init__(self, watch: Watch | None) -> None:
        """
        Args:
            watch: of the run, if one is on.
        """
        self._watch = watch
        self._after = ExitStack()
        self._tensors: dict[str, torch.Tensor] = {}

    def take(self, model: Any, parts: Iterable[str], device: torch.device, alone: bool = False) -> Lease:
        """Clean the weights, bring them to the device and collect them. Call under the turn; `give_back` is due even if it raises.

        Args:
            alone: the other parts go to main memory.

        Raises:
            HostError: the weights are not there.
        """
        self._after.callback(Around(model, self._watch).close)
        weights.clean(model)
        if self._watch is not None:
            self._watch.turn_begins(model)
            self._after.callback(self._watch.turn_over, model)
        start, parts = time.monotonic(), tuple(parts)
        if alone:
            weights.send_away(model, [part for part in weights.PARTS if part not in parts], device, self._after)
        weights.bring(model, parts, device, self._after)
        moved = time.monotonic() - start
        self._watch_weights(model)
        self._tensors.update(weights.collect(model))
        self._after.callback(self._tensors.clear)
        alphas = getattr(model, "alphas_cumprod_original", model.alphas_cumprod)
        return Lease(self._tensors, alphas.detach().to(device, torch.float32, copy=True), float(model.scale_factor), device, moved)

    def give_back(self) -> None:
        """Undo all that `take` did, last first, and release the model."""
        self._after.close()

    def _watch_weights(self, model: Any) -> None:
        watch = self._watch
        if watch is None:
            return
        began = remembered_state.marks(model)
        self._after.callback(lambda: watch.lease_ended(model, began, remembered_state.marks(model)))


class Around:
    """Compares everything but the weights at both ends of a turn, and tells the watch what we changed."""

    def __init__(self, model: Any, watch: Watch | None) -> None:
        """
        Args:
            watch: of the run, if one is on; without it there is nothing to tell.
        """
        self._model, self._watch = model, watch
        if watch is not None:
            self._settings, self._surroundings = remembered_state.options(), remembered_state.surroundings(model)

    @contextmanager
    def theirs(self) -> Iterator[None]:
        """Inside, the WebUI makes an image for us. Changes by it and its extensions are not ours, and later comparisons start from them."""
        if self._watch is None:
            yield
            return
        settings, before = remembered_state.options(), remembered_state.surroundings(self._model)
        try:
            yield
        finally:
            after, left = remembered_state.options(), remembered_state.surroundings(self._model)
            self._surroundings = self._surroundings.with_changes(before, left)
            self._settings |= {key: value for key, value in after.items() if settings.get(key) != value}

    def close(self) -> None:
        """Compare once more, tell the watch, and release the model."""
        model, self._model = self._model, None
        if self._watch is not None:
            self._watch.around(self._surroundings, remembered_state.surroundings(model))
            self._watch.settings(self._settings, remembered_state.options())
