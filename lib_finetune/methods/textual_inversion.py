"""Textual Inversion: a few vectors of the text encoder's input are trained, the model stays as it is (Gal et al., arXiv 2208.01618)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

from lib_finetune.methods.denoising import Denoiser, batch_loss
from lib_finetune.model.prompts import TextEncoder

if TYPE_CHECKING:
    from lib_finetune.data.batches import Batch

KEY = "emb_params"
"""The tensor's name in the WebUI's embedding files."""


class TextualInversionMethod:
    """Implements `engine.method.Method`."""

    def __init__(self, vectors: nn.Parameter, keep_norm: bool, text: TextEncoder, denoiser: Denoiser) -> None:
        """
        Args:
            vectors: [n, width] float32, looked up by ``text``.
            keep_norm: bring each vector back to the length it began with after every step.
        """
        self._vectors = vectors
        self._norm = vectors.detach().norm(dim=1, keepdim=True) if keep_norm else None
        self._text = text
        self._denoiser = denoiser

    def parameters(self) -> Mapping[str, Mapping[str, nn.Parameter]]:
        """See `Method.parameters`."""
        return {"embedding": {KEY: self._vectors}}

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Mean over the pictures; class pictures, whose captions do not name the embedding, teach it nothing."""
        return batch_loss(self._denoiser, self._text, batch, generator), {}

    def train(self, mode: bool) -> None:
        """There is no dropout."""

    def after_step(self) -> None:
        """Keep the norms of vectors that learn."""
        if self._norm is not None and self._vectors.requires_grad:
            with torch.no_grad():
                self._vectors.mul_(self._norm / self._vectors.norm(dim=1, keepdim=True).clamp(min=1e-12))

    def artifact(self) -> dict[str, torch.Tensor]:
        """See `Method.artifact`."""
        return {KEY: self._vectors}
