"""Textual Inversion: trains a few vectors of the text encoder's input; the model stays as it is (Gal et al., arXiv 2208.01618)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lib_finetune.errors import NothingLearnedError
from lib_finetune.text.prompts import TextEncoder
from lib_finetune.training.methods.denoising import Denoiser, batch_loss

if TYPE_CHECKING:
    from lib_finetune.data.batches import Batch

KEY = "emb_params"
"""The tensor's name in the WebUI's embedding files."""


class LearningCheck:
    """Checks that every vector learns: each must get a gradient within `STEPS` steps that could teach it.

    Without this check, a word that learns nothing would show only when somebody uses it. The notes stay on the device and are
    read once.
    """

    STEPS = 10

    def __init__(self, vectors: nn.Parameter) -> None:
        self._vectors = vectors
        self._moved = torch.zeros(len(vectors), dtype=torch.bool, device=vectors.device)
        self._steps = torch.zeros((), dtype=torch.long, device=vectors.device)
        self._asked = self.STEPS
        self._could_teach = False
        self._done = False
        self._hook: Any = None

    def expect(self, batch: Batch) -> None:
        """Count a batch, unless all of its captions were dropped: it teaches nothing."""
        named = any(caption and not prior for caption, prior in zip(batch.captions, batch.prior, strict=True))
        self._could_teach = named and self._vectors.requires_grad
        if self._could_teach and self._hook is None:
            self._hook = self._vectors.register_hook(self._look)

    def _look(self, gradient: torch.Tensor) -> None:
        """Note which vectors have a gradient. A loss scaler changes no zero, and a gradient that is not finite belongs to a skipped step."""
        if not self._done and self._could_teach:
            finite = gradient.isfinite().all()
            self._moved |= finite & (gradient != 0).any(1)
            self._steps += finite

    def after_step(self) -> None:
        """
        Raises:
            NothingLearnedError: names the vectors.
        """
        if self._done or not self._could_teach:
            return
        self._asked -= 1
        if self._asked > 0:
            return
        self._asked = self.STEPS - int(self._steps)  # reads the device once; after skipped steps it waits for more
        if self._asked > 0:
            return
        self._done = True
        self._hook.remove()
        if still := [number for number, moved in enumerate(self._moved.tolist(), start=1) if not moved]:
            raise NothingLearnedError(still, len(self._vectors), self.STEPS)


class TextualInversionMethod:
    """Implements `training.method.Method`."""

    def __init__(self, vectors: nn.Parameter, keep_norm: bool, text: TextEncoder, denoiser: Denoiser) -> None:
        """
        Args:
            vectors: [n, width] float32, looked up by ``text``.
            keep_norm: bring each vector back to the length it began with after every step.
        """
        self._vectors = vectors
        self._check = LearningCheck(vectors)
        self._norm = vectors.detach().norm(dim=1, keepdim=True) if keep_norm else None
        self._text = text
        self._denoiser = denoiser

    def parameters(self) -> Mapping[str, Mapping[str, nn.Parameter]]:
        """See `Method.parameters`."""
        return {"embedding": {KEY: self._vectors}}

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Mean over the images; class images, whose captions do not name the embedding, teach it nothing."""
        self.expect(batch)
        return batch_loss(self._denoiser, self._text, batch, generator), {}

    def expect(self, batch: Batch) -> None:
        """See `LearningCheck.expect`; for a caller that computes the loss itself."""
        self._check.expect(batch)

    def train(self, mode: bool) -> None:
        """Textual Inversion has no dropout."""

    def after_step(self) -> None:
        """Restore the norms of the vectors that learn, and check that they learn.

        Raises:
            NothingLearnedError: see `LearningCheck`.
        """
        self._check.after_step()
        if self._norm is not None and self._vectors.requires_grad:
            self.constrain({KEY: self._vectors})

    @torch.no_grad()
    def constrain(self, values: Mapping[str, torch.Tensor]) -> None:
        """Restore the lengths of the vectors; an average of vectors is shorter than each of them."""
        if self._norm is not None and KEY in values:
            vectors = values[KEY]
            vectors.mul_(self._norm / vectors.norm(dim=1, keepdim=True).clamp(min=1e-12))

    def artifact(self) -> dict[str, torch.Tensor]:
        """See `Method.artifact`."""
        return {KEY: self._vectors}
