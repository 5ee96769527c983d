"""Learned vectors behind the rows of the token table, found in a caption by their name as the WebUI finds them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn


class LearnedVectors(nn.Module):
    """Stands in the view's text encoder where its token table stood, and looks up trained vectors behind the table's rows.

    The table keeps its place and stays the host's storage; it is read and never written.
    """

    def __init__(self, transformer: Any, tokenizer: Any, vectors: Mapping[str, torch.Tensor]) -> None:
        """
        Args:
            transformer: `BorrowedModel.text`; its token table is replaced in the view by this module.
            tokenizer: a CLIPTokenizer.
            vectors: name → [n, width]; an `nn.Parameter` among them stays the very object, so that it can be trained.
        """
        super().__init__()
        self.table: nn.Embedding = transformer.embeddings.token_embedding
        self.vectors = nn.ParameterList([_parameter(value) for value in vectors.values()])
        self._rows = self.table.num_embeddings
        self._runs: list[tuple[list[int], tuple[int, ...]]] = []
        first = self._rows
        for name, value in vectors.items():
            self._runs.append((ids_of(tokenizer, name), tuple(range(first, first + len(value)))))
            first += len(value)
        # Of two names the longer one is looked for first, as `EmbeddingDatabase.register_embedding` sorts them.
        self._runs.sort(key=lambda run: -len(run[0]))
        transformer.embeddings.token_embedding = self

    def place(self, tokens: Sequence[int]) -> list[int | tuple[int, ...]]:
        """A caption's tokens with each name replaced by the run of its rows, from left to right.

        Reference: `find_embedding_at_position` in the WebUI's modules/textual_inversion/textual_inversion.py.
        """
        return placed(tokens, self._runs)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Ids [b, 77] → vectors [b, 77, width] in the table's dtype."""
        own = ids >= self._rows
        known = self.table(ids.masked_fill(own, 0))
        learned = torch.cat(list(self.vectors)).to(known.dtype)
        return torch.where(own.unsqueeze(-1), learned[(ids - self._rows).clamp(min=0)], known)

    @property
    def weight(self) -> torch.Tensor:
        """The table's; libraries ask it for device and dtype."""
        return self.table.weight


def placed(tokens: Sequence[int], runs: Sequence[tuple[list[int], tuple[int, ...]]]) -> list[int | tuple[int, ...]]:
    """A caption's tokens with each run of ids replaced by a run of rows, from left to right.

    Args:
        runs: (ids of a name, rows of its vectors), the longest name first.
    """
    ids_and_places: list[int | tuple[int, ...]] = []
    position = 0
    while position < len(tokens):
        run = next((run for run in runs if list(tokens[position : position + len(run[0])]) == run[0]), None)
        ids_and_places.append(tokens[position] if run is None else run[1])
        position += 1 if run is None else len(run[0])
    return ids_and_places


def count_tokens(tokenizer: Any, caption: str, word: str = "", vectors: int = 1) -> int:
    """Tokens that a caption takes, without start and end.

    Args:
        word: an embedding's name in it, or "".
        vectors: how many tokens the word takes.
    """
    runs = [(ids_of(tokenizer, word), tuple(range(vectors)))] if word else []
    return sum(len(piece) if isinstance(piece, tuple) else 1 for piece in placed(ids_of(tokenizer, caption), runs))


def ids_of(tokenizer: Any, words: str) -> list[int]:
    """Token ids of words, without start and end."""
    return list(tokenizer(words, add_special_tokens=False, truncation=False, verbose=False).input_ids)


def first_values(table: torch.Tensor, ids: Sequence[int], count: int, seed: int) -> torch.Tensor:
    """What the vectors begin with: [count, width] float32.

    Tokens are spread evenly: with fewer tokens than vectors each token starts several, with more each vector starts at
    the mean of its share. Without tokens: random directions at the mean norm of the vocabulary.

    Args:
        table: token table [rows, width].
        ids: of the init words; may be empty.
    """
    if ids:
        rows = table[torch.tensor(list(ids), device=table.device)].detach().float()
        bounds = [place * len(ids) / count for place in range(count + 1)]
        shares = [rows[int(low) : max(int(low) + 1, int(high))] for low, high in itertools.pairwise(bounds)]
        return torch.stack([share.mean(0) for share in shares])
    norm = table.detach().float().norm(dim=1).mean()
    drawn = torch.randn((count, table.shape[1]), generator=torch.Generator().manual_seed(seed)).to(table.device)
    return drawn / drawn.norm(dim=1, keepdim=True) * norm


def _parameter(value: torch.Tensor) -> nn.Parameter:
    return value if isinstance(value, nn.Parameter) else nn.Parameter(value, requires_grad=False)
