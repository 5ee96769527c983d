"""The model swap: where the device cannot hold the host's model and the trained one together, they change places with main memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from lib_finetune.errors import OutOfMemoryError
from lib_finetune.model.parking import Parking


class ModelSwap:
    """What is trained lies on the device in our turns and in main memory between them; the lease sees to the host's model.

    Attributes:
        seconds: that the way there and back took last, the host's model included.
        count: how often they have changed places.
        total: seconds of all of them.
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
        """Everything goes to main memory. What does not find room there is dropped: the host's model must come back.

        Raises:
            OutOfMemoryError: main memory is full; the weights are empty, and the last saved state is what there is.
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
        """Everything comes to the device again.

        Raises:
            RuntimeError: the device has no room; what is there already stays.
        """
        self._parking.bring()

    def took(self, seconds: float) -> None:
        """Note the time of a way there and back."""
        self.seconds = seconds
        self.total += seconds
        self.count += 1
        self.on_swapped(self)
