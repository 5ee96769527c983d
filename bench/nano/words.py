"""How much a word changes what a checkpoint predicts: an identifier that changes nothing, or as much as a colour, misleads a measure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .evaluate import start_noise
from .tokens import encode

if TYPE_CHECKING:
    import torch

KNOWN = "red"
"""The word of which a share is told: every painter of the drawn world knows colours."""
TIMESTEPS = (400, 600, 800)
SEEDS = (0, 1)

Predict = Callable[[str, int, int], "torch.Tensor"]
"""(prompt, timestep, seed of the noise) → the predicted noise."""


def shares(predict: Predict, words: Sequence[str], class_word: str, known: str = KNOWN) -> Mapping[str, float]:
    """Word → how far "a photo of WORD CLASS" is from "a photo of CLASS", as a share of that distance for the known word.

    Distances are L2 norms over the prediction, summed over `TIMESTEPS` and `SEEDS`. 0: the word is passed over; 1: it means as much as a colour.

    Raises:
        ZeroDivisionError: the known word changes nothing, so nothing can be compared with it.
    """
    sums = dict.fromkeys([known, *words], 0.0)
    for timestep in TIMESTEPS:
        for seed in SEEDS:
            plain = predict(f"a photo of {class_word}", timestep, seed)
            for word in sums:
                sums[word] += float((predict(f"a photo of {word} {class_word}", timestep, seed) - plain).norm())
    return {word: sums[word] / sums[known] for word in words}


def predictor(checkpoint: Path) -> Predict:
    """Predictions of a checkpoint of the drawn world, from pure noise.

    Raises:
        CheckpointError: the file is missing or of another family.
    """
    import torch

    from .trained import bound

    model = bound(checkpoint)

    def predict(prompt: str, timestep: int, seed: int) -> torch.Tensor:
        with torch.no_grad():
            context = model.text(encode([prompt])).last_hidden_state
            predicted: torch.Tensor = model.unet(start_noise(seed)[None], torch.tensor([timestep]), context).sample
        return predicted

    return predict


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Class → word → share as a Markdown table, a row a word."""
    words = list(dict.fromkeys(word for row in rows.values() for word in row))
    lines = ["| word | " + " | ".join(f'of "{each}"' for each in rows) + " |", "| --- |" + " --- |" * len(rows)]
    lines += [f"| {word} | " + " | ".join(f"{row[word]:.2f}" for row in rows.values()) + " |" for word in words]
    return "\n".join(lines)
