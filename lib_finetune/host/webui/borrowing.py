"""One borrowing of the host's model: taken at the start of a turn, given back at its end in every case."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
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
        self._after.callback(around(model, self._watch))
        weights.clean(model)
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
        """Undo all that `take` did, last first, and let go of the model."""
        self._after.close()

    def _watch_weights(self, model: Any) -> None:
        watch = self._watch
        if watch is None:
            return
        began = remembered_state.marks(model)
        watch.turn_began(model, began)
        self._after.callback(lambda: watch.turn_ended(began, remembered_state.marks(model)))


def around(model: Any, watch: Watch | None) -> Callable[[], None]:
    """With a watch, look at everything but the weights; the function returned looks again and tells."""
    if watch is None:
        return lambda: None
    settings, before = remembered_state.options(), remembered_state.surroundings(model)

    def close() -> None:
        watch.around(before, remembered_state.surroundings(model))
        watch.settings(settings, remembered_state.options())

    return close
