"""What is to be expected of each method, in words: nothing here is measured or computed, so nothing here is a number."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Prospect:
    """A method's strengths and prices.

    Attributes:
        likeness, time, file, memory, risk: a sentence each.
        line: the one that stands on its card.
    """

    line: str
    likeness: str
    time: str
    file: str
    memory: str
    risk: str


PROSPECTS = {
    "lora": Prospect(
        "Close to DreamBooth for most subjects; its strength is set in the prompt.",
        likeness="close to DreamBooth for most faces, animals, things and styles",
        time="usually the shortest, for small patches are trained and not the model",
        file="small, and larger with the rank; several can be used in one prompt",
        memory="the loaded model and little beside it",
        risk="few or poor images show in all that it makes; it is at its best on the checkpoint that it was trained on, and a style that clashes with "
        "the checkpoint's is distorted",
    ),
    "dreambooth": Prospect(
        "The best likeness and detail; a checkpoint of its own.",
        likeness="the closest and the most detailed; it gains from more images",
        time="longer than a LoRA, for all weights are trained",
        file="a whole checkpoint; one is loaded at a time",
        memory="the most: weights, gradients and what the optimizer keeps of them",
        risk="it can shift colours, forget the class or copy the images; captions, a small learning rate, class images and snapshots to choose from "
        "are the remedy",
    ),
    "textual_inversion": Prospect(
        "Good for realistic faces and small things; no exact copy.",
        likeness="good for realistic faces and one small thing; no exact copy, and no style",
        time="more steps than a LoRA, for a few vectors learn slowly",
        file="the smallest; several can be used in one prompt",
        memory="the loaded model and almost nothing beside it",
        risk="too many steps spoil it; each of its vectors takes a place in the prompt, and it is at its best on the model that it was trained on",
    ),
    "pivotal_tuning": Prospect(
        "As a LoRA, with a word that was learned too.",
        likeness="as a LoRA, and what the trigger word means is learned too",
        time="a little longer than a LoRA",
        file="a LoRA, with the word in it or beside it",
        memory="as a LoRA",
        risk="as a LoRA; its word means nothing without its file",
    ),
}
"""Method → what is to be expected of it."""
