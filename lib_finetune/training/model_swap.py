"""The model swap: where the device cannot hold both the host's model and the trained one, the one that is not used lies in main memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from lib_finetune.errors import OutOfMemoryError
from lib_finetune.model.parking import Parking


class ModelSwap:
    """The trained model lies on the device in our turns and in main memory between them; the lease moves the host's model.

    Attributes:
        seconds: duration of the last swap and its return, the host's model included.
        count: number of swaps.
        total: seconds of all swaps.
        on_swapped: called after each.
    """

    def __init__(self, held: Callable[[], Iterable[torch.Tensor]], on_swapped: Callable[[ModelSwap], None] = lambda _: None) -> None:
        """
        Args:
            held: everything that training keeps from step to step, on the device at this moment.
        """
        self._held = held
        self.on_swapped = on_swapped
        self._parking = Parking()
        self.seconds = 0.0
        self.count = 0
        self.total = 0.0

    def leave(self) -> None:
        """Move everything to main memory. Tensors that find no room there are dropped, because the host's model must come back.

        Raises:
            OutOfMemoryError: main memory is full; the weights are empty, and only the last saved state is left.
        """
        tensors = list({id(tensor): tensor for tensor in self._held()}.values())
        try:
            self._parking.send(tensors)
        except (RuntimeError, MemoryError):
            full = True
        else:
            full = False
        if full:  # outside, so that the error does not keep the frames of the first one
            for tensor in tensors:
                tensor.data = tensor.data.new_empty(0)
            raise OutOfMemoryError(
                "Main memory has no room for the trained weights while the WebUI has its turn. The last saved state is kept: "
                "close other programs and let the run continue, or set tuning.host_weights to beside."
            )

    def come(self) -> None:
        """Move everything to the device again.

        Raises:
            RuntimeError: the device has no room; tensors that are there already stay.
        """
        self._parking.bring()

    def took(self, seconds: float) -> None:
        """Note the seconds of a swap and its return."""
        self.seconds = seconds
        self.total += seconds
        self.count += 1
        self.on_swapped(self)
