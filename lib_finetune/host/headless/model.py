"""The checkpoint that a headless host holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from lib_finetune.model import checkpoint_reader, layout
from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.names import kohya_module

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import torch

    from lib_finetune.model.layout import Layout
    from lib_finetune.ports.checkpoint import CheckpointInfo

SCALE_FACTOR = 0.18215


@dataclass
class HeldCheckpoint:
    """The tensors of one checkpoint and their meaning.

    Attributes:
        tensors: LDM names, all on one device and of one dtype.
        text_heads: of the text encoder; None takes 64 channels a head.
        device: where the tensors lie, except those that a lease has moved away.
    """

    tensors: dict[str, torch.Tensor]
    info: CheckpointInfo
    text_heads: int | None = None
    layout: Layout = field(init=False)
    device: torch.device = field(init=False)

    def __post_init__(self) -> None:
        """
        Raises:
            CheckpointError: not a Stable Diffusion 1.x checkpoint.
        """
        self.layout = layout.infer(self.tensors, self.text_heads)
        self.device = next(iter(self.tensors.values())).device

    @property
    def text_width(self) -> int:
        """Channels of the text encoder, which are those of a learned vector."""
        return int(self.layout.text["hidden_size"])

    @cached_property
    def kohya_modules(self) -> frozenset[str]:
        """Names of the modules that a LoRA file can have parts for."""
        model = BorrowedModel(self.layout)
        roots = {"unet": model.unet, "text": model.text}
        return frozenset(kohya_module(part, name) for part, root in roots.items() for name, _ in root.named_modules())

    def refuse_strangers(self, path: Path, names: Iterable[str]) -> None:
        """
        Args:
            names: of the tensors of a checkpoint, as `checkpoint_reader.read` gives them.

        Raises:
            CheckpointError: some have no place in this model and would stay unused.
        """
        places = {slot.source for slot in BorrowedModel(self.layout).slots}
        checkpoint_reader.refuse_strangers(path, (name for name in names if name not in places))
