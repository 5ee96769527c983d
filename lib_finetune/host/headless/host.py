"""The host without a WebUI: this process holds a checkpoint file; for the command line and tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lib_finetune.errors import CheckpointChangedError, HostError
from lib_finetune.host import memory
from lib_finetune.host.headless.captions import HeadlessCaptions
from lib_finetune.host.headless.files import HeadlessFiles
from lib_finetune.host.headless.model import SCALE_FACTOR, HeldCheckpoint
from lib_finetune.host.headless.pictures import HeadlessPictures
from lib_finetune.model import checkpoint_reader, layout, prediction
from lib_finetune.model.digest import digest
from lib_finetune.model.noise_schedule import scaled_linear
from lib_finetune.model.normal_tensor import normal
from lib_finetune.model.parking import Parking
from lib_finetune.ports.checkpoint import CheckpointInfo
from lib_finetune.ports.files import HostFiles, Paths
from lib_finetune.ports.host import MemoryUse, Restoration
from lib_finetune.ports.lease import Lease, TextTools
from lib_finetune.ports.pictures import PICTURE_BYTES, HostPictures
from lib_finetune.ports.processes import ALONE, Processes
from lib_finetune.text import tokenizer


class HeadlessHost:
    """Implements `ports.Host` on tensors of its own.

    Attributes:
        held: the checkpoint.
        processes: that train together, each on a host of its own.
    """

    processes: Processes = ALONE

    def __init__(self, tensors: Mapping[str, torch.Tensor], info: CheckpointInfo, root: Path, text_heads: int | None = None) -> None:
        """
        Args:
            tensors: LDM names, all on one device and of one dtype.
            root: models go to ``root/models/…``, the rest to ``root/.finetune``.
            text_heads: of the text encoder; None takes 64 channels a head.

        Raises:
            CheckpointError: not a Stable Diffusion 1.x checkpoint.
        """
        self.held = HeldCheckpoint(dict(tensors), info, text_heads)
        self.files: HostFiles = HeadlessFiles(self.held)
        self.pictures: HostPictures = HeadlessPictures(self.held, self.text_tools)
        self.captions = HeadlessCaptions()
        self._alphas = scaled_linear().to(self.held.device)
        models = root / "models"
        self._paths = Paths(models / "Lora", models / "Stable-diffusion", root / "embeddings", root / ".finetune")
        self._before: dict[str, int] = {}
        self._tokenizer: Any = None
        self._tools_lock = threading.Lock()

    @classmethod
    def open(
        cls,
        checkpoint: Path,
        root: Path,
        *,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        predicts: str | None = None,
    ) -> HeadlessHost:
        """Read a checkpoint file; fp16 on CUDA, fp32 on the CPU unless ``dtype`` says otherwise.

        Args:
            predicts: "epsilon" or "v_prediction", where neither the file nor the ``.yaml`` beside it tells.

        Raises:
            CheckpointError: the file is missing, broken, or of another family.
        """
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        target_dtype = dtype or (torch.float16 if place.type == "cuda" else torch.float32)
        tensors = checkpoint_reader.read(checkpoint, target_dtype, place)
        heads = layout.text_heads_of(checkpoint_reader.metadata(checkpoint), tensors, checkpoint.name)
        digits = checkpoint_reader.sha256(checkpoint)
        info = CheckpointInfo(
            checkpoint.stem, checkpoint.resolve(), digits, digits[:10], None, prediction.of_checkpoint(checkpoint, predicts)
        )
        host = cls(tensors, info, root, heads)
        host.held.refuse_strangers(checkpoint, tensors)
        return host

    @property
    def paths(self) -> Paths:
        """See `HostWeights.paths`."""
        return self._paths

    @property
    def device(self) -> torch.device:
        """See `HostWeights.device`."""
        return self.held.device

    def refusals(self) -> list[str]:
        """None: nobody else can disturb a model that is ours."""
        return []

    def checkpoint(self) -> CheckpointInfo:
        """See `HostWeights.checkpoint`."""
        return self.held.info

    def text_tools(self) -> TextTools:
        """See `HostWeights.text_tools`. Any thread: two that import transformers at the same time get in each other's way."""
        with self._tools_lock:
            if self._tokenizer is None:
                self._tokenizer = tokenizer.load(self._paths.data / "tokenizer")
        return TextTools(self._tokenizer, self.held.layout.text["num_attention_heads"], clip_skip=1)

    @contextmanager
    def lease(
        self, checkpoint: CheckpointInfo | None = None, parts: Iterable[str] = ("unet", "text", "vae"), *, alone: bool = False
    ) -> Iterator[Lease]:
        """See `HostWeights.lease`; all weights lie on the device already."""
        if checkpoint is not None and checkpoint.identity != self.held.info.identity:
            raise CheckpointChangedError(str(checkpoint), str(self.held.info))
        parking, start, needed = Parking(), time.monotonic(), tuple(layout.PREFIXES[part] for part in parts)
        try:
            if alone:
                parking.send(tensor for name, tensor in self.held.tensors.items() if not name.startswith(needed))
            tensors = {name: normal(tensor) for name, tensor in self.held.tensors.items()}
            yield Lease(tensors, self._alphas, SCALE_FACTOR, self.device, time.monotonic() - start)
        finally:
            parking.bring()
            memory.hand_over(self.device, PICTURE_BYTES)

    def waiting(self) -> bool:
        """Nobody but us uses the model."""
        return False

    def between_turns(self) -> None:
        """Nobody waits."""

    def load(self, checkpoint: CheckpointInfo) -> None:
        """
        Raises:
            HostError: a headless run holds the one checkpoint it was started with.
        """
        if checkpoint.identity != self.held.info.identity:
            raise HostError(f"This run holds {self.held.info}; start it again with --checkpoint {checkpoint.path or checkpoint.name}.")

    def remember(self) -> Sequence[str]:
        """See `HostWeights.remember`."""
        memory.reset_peak(self.device)
        self._before = digest(self.held.tensors)
        return ()

    def restoration(self) -> Restoration:
        """See `HostWeights.restoration`."""
        memory.let_go_of_all(self.device)
        start = time.monotonic()
        after = digest(self.held.tensors)
        changed = [f"the weight {name} changed" for name, value in self._before.items() if after[name] != value]
        return Restoration(tuple(changed), len(after), time.monotonic() - start)

    def memory(self) -> MemoryUse:
        """See `HostWeights.memory`."""
        return memory.use(self.device)
