"""Captions to conditioning, the way the WebUI reads plain text: chunks of 75 tokens, clip skip, final layer norm."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch

from lib_finetune.errors import InputError, Problem
from lib_finetune.text.learned import LearnedVectors, ids_of
from lib_finetune.transfer import on_device

START, END = 49406, 49407
CHUNK = 75
_COMMA_BACKTRACK = 20  # the WebUI's default of opts.comma_padding_backtrack


def chunks_of(tokens: Sequence[int | tuple[int, ...]], comma: int, limit: int | None = None) -> list[list[int]]:
    """Split a prompt's tokens into rows of 77 with start and end.

    A full chunk gives the words behind its last comma to the next one when that comma is at most 20 tokens away, as
    `modules/sd_hijack_clip.py` of the WebUI does. A run of learned vectors is never parted.

    Args:
        tokens: ids without start and end; a tuple is the run of one embedding's vectors.
        comma: id of the token for ",".
        limit: tokens that are read; None reads all.
    """
    rows: list[list[int]] = [[]]
    last_comma, read = -1, 0
    for token in tokens:
        run = token if isinstance(token, tuple) else (token,)
        read += len(run)
        if limit is not None and read > limit:
            break
        row = rows[-1]
        if token == comma:
            last_comma = len(row)
        elif len(row) == CHUNK and last_comma != -1 and len(row) - last_comma <= _COMMA_BACKTRACK:
            rows.append(row[last_comma + 1 :])
            del row[last_comma + 1 :]
            row, last_comma = rows[-1], -1
        if len(row) + len(run) > CHUNK:
            rows.append([])
            row, last_comma = rows[-1], -1
        row.extend(run)
    return [[START, *row, *[END] * (CHUNK - len(row)), END] for row in rows]


class TextEncoder:
    """Captions in, conditioning out; outputs are kept while the text encoder is not trained."""

    def __init__(
        self,
        transformer: Any,
        tokenizer: Any,
        clip_skip: int,
        max_tokens: int | None = None,
        texts_kept: int = 0,
        learned: LearnedVectors | None = None,
    ) -> None:
        """
        Args:
            transformer: `BorrowedModel.text`.
            tokenizer: a CLIPTokenizer.
            clip_skip: 1 reads the last layer, n the n-th from the end followed by the final layer norm.
            max_tokens: tokens of a caption that are read; None reads all.
            texts_kept: how many captions' outputs are kept; 0 for a text encoder that is trained.
            learned: embeddings that captions may name, in the transformer already.

        Raises:
            InputError: the text encoder has fewer layers than are skipped.
        """
        layers = int(transformer.config.num_hidden_layers)
        if clip_skip > layers:
            message = f"is {clip_skip}, but the text encoder has {layers} layers. Set it to {layers} or less."
            raise InputError([Problem("training.clip_skip", message)])
        self._learned = learned
        self._transformer = transformer
        self._tokenizer = tokenizer
        self._comma = int(tokenizer.convert_tokens_to_ids(",</w>"))
        self._clip_skip = clip_skip
        self._max_tokens = max_tokens
        self._texts_kept = texts_kept
        self._mask: torch.Tensor | None = None
        # transformers 5 has no mask for it, and says that a token sees those before it
        self._takes_mask = "causal_attention_mask" in inspect.signature(transformer.encoder.layers[0].forward).parameters
        self._known: OrderedDict[str, torch.Tensor] = OrderedDict()

    @property
    def keeps(self) -> bool:
        """Whether outputs are kept, so that most steps do not run the text encoder."""
        return self._texts_kept > 0

    def tokens(self, caption: str) -> list[int]:
        """Ids of a caption without start and end, uncut; embeddings by the rows of their vectors."""
        return [row for piece in self._pieces(caption) for row in (piece if isinstance(piece, tuple) else (piece,))]

    def _pieces(self, caption: str) -> list[int | tuple[int, ...]]:
        ids = ids_of(self._tokenizer, caption)
        return self._learned.place(ids) if self._learned else list(ids)

    def encode(self, captions: Sequence[str], among: Sequence[str] = ()) -> torch.Tensor:
        """Conditioning [b, 77·k, width] for captions, k the chunks of the longest; shorter ones are filled with empty chunks.

        Args:
            among: other captions whose length counts, too: what is compared with a larger batch must be filled as it is.
        """
        rows = [self._rows(caption) for caption in captions]
        longest = max(map(len, [*rows, *map(self._rows, among)]))
        rows = [own + chunks_of([], self._comma) * (longest - len(own)) for own in rows]
        if not self._texts_kept:
            return self._run([row for own in rows for row in own]).unflatten(0, (len(captions), longest)).flatten(1, 2)
        return torch.stack([self._remembered(f"{longest}:{caption}", own) for caption, own in zip(captions, rows, strict=True)])

    def _rows(self, caption: str) -> list[list[int]]:
        return chunks_of(self._pieces(caption), self._comma, self._max_tokens)

    def forget(self) -> None:
        """Drop the kept outputs."""
        self._known.clear()

    def _remembered(self, key: str, rows: list[list[int]]) -> torch.Tensor:
        # One caption at a time, so that an output does not depend on what else was in the batch.
        if key not in self._known:
            with torch.no_grad():
                self._known[key] = self._run(rows).flatten(0, 1)
            while len(self._known) > self._texts_kept:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]

    def _run(self, rows: list[list[int]]) -> torch.Tensor:
        transformer = self._transformer
        ids = on_device(torch.tensor(rows), transformer.final_layer_norm.weight.device)
        hidden = transformer.embeddings(input_ids=ids)
        for layer in transformer.encoder.layers[: len(transformer.encoder.layers) + 1 - self._clip_skip]:
            hidden = self._layer(layer, hidden)
        output: torch.Tensor = transformer.final_layer_norm(hidden)
        return output

    def _layer(self, layer: Any, hidden: torch.Tensor) -> torch.Tensor:
        """One layer, in which each token sees those before it."""
        if not self._takes_mask:
            output: torch.Tensor = layer(hidden, None, is_causal=True)
            return output
        if self._mask is None or (self._mask.dtype, self._mask.device) != (hidden.dtype, hidden.device):
            self._mask = causal_mask(hidden.shape[1], hidden.dtype, hidden.device)  # once, not with each caption
        mask = self._mask.expand(len(hidden), -1, -1, -1)
        return layer(hidden, attention_mask=None, causal_attention_mask=mask)[0]  # type: ignore[no-any-return]


def causal_mask(length: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """What is added to attention, [1, 1, length, length]: nothing for a token and those before it, the least number for those behind it."""
    return torch.full((length, length), torch.finfo(dtype).min, dtype=dtype, device=device).triu(1)[None, None]
