"""A LoRA that a tool has made, before it is written: tensors, metadata, card, and what is said of it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from lib_finetune.ports.files import Card
from lib_finetune.text_files import read

TOOL_KEY = "finetune_tool"
"""Metadata by which a file of a tool is known as made here."""


class Stopped(Exception):  # noqa: N818  no error: the person pressed Stop
    """A stop was asked for."""


@dataclass(frozen=True)
class WrittenLora:
    """
    Attributes:
        tensors: of kohya's LoRA file.
        metadata: without the hashes.
        card: what the WebUI shows beside the file.
        lines: what is said of it.
        lost: which share of the change is not in it, 0 to 1.
        words: word → vectors, in the file too.
    """

    tensors: Mapping[str, torch.Tensor]
    metadata: Mapping[str, str]
    card: Card
    lines: Sequence[str]
    lost: float
    words: Mapping[str, torch.Tensor] = field(default_factory=dict)


def about_ranks(ranks: Sequence[int]) -> str:
    """ "rank 32", or "ranks 4 to 64"."""
    low, high = min(ranks, default=0), max(ranks, default=0)
    return f"rank {low}" if low == high else f"ranks {low} to {high}"


def rank_metadata(name: str, ranks: Sequence[int], tool: str) -> dict[str, str]:
    """Metadata of a LoRA's name and ranks; of several ranks "Dynamic", as sd-scripts says it."""
    dim = str(ranks[0]) if len(set(ranks)) == 1 else "Dynamic"
    return {
        "ss_output_name": name,
        "ss_network_module": "networks.lora",
        "ss_network_dim": dim,
        "ss_network_alpha": dim,
        "modelspec.title": name,
        "modelspec.date": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()),
        TOOL_KEY: tool,
    }


def card_beside(file: Path, metadata: Mapping[str, str], description: str) -> Card:
    """The card of a file made from another one: its words and weight where it has a card, else the trigger that its metadata tell."""
    try:
        about = json.loads(read(file.with_suffix(".json")))
        about = about if isinstance(about, dict) else {}
    except (OSError, ValueError):  # most files of others have none
        about = {}
    words = str(about.get("activation text") or metadata.get("modelspec.trigger_phrase") or "")
    weight = about.get("preferred weight")
    notes = str(about.get("notes") or metadata.get("modelspec.usage_hint") or "")
    return Card(words, float(weight) if isinstance(weight, int | float) and weight else 1.0, description, notes)
