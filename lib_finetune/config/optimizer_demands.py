"""What each optimizer demands of the other settings: the one table that check, help, form and automatic settings read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Demands:
    """What an optimizer demands.

    Attributes:
        finds_rate: it finds its own learning rate; the one that is set multiplies it and is 1 as a rule.
        one_rate: all that is trained has one learning rate.
        whole_gradient: it looks at the gradient of all weights together, so that none can be moved by itself.
        devices: kinds of devices that its library computes on; none: all.
        fewest_steps: in fewer steps it learns next to nothing; 0: any number will do.
        library: the module that it comes from where that may be missing, or "".
    """

    finds_rate: bool = False
    one_rate: bool = False
    whole_gradient: bool = False
    devices: tuple[str, ...] = ()
    fewest_steps: int = 0
    library: str = ""


DEMANDS = {
    "adamw": Demands(),
    "adamw8bit": Demands(devices=("cuda",), library="bitsandbytes"),
    "adafactor": Demands(),
    "lion": Demands(library="lion_pytorch"),
    # measured: the estimate d begins at 1e-6. In a run of 120 steps (tiny model, LoRA, cosine) it ended at 1.1e-6, in another at 4.5e-6; in one
    # of 500 it was 3.9e-5 after 120 steps and 1.5e-2 after 200, where it stayed. AdamW moves patches by 1e-4 a step.
    "prodigy": Demands(finds_rate=True, one_rate=True, whole_gradient=True, fewest_steps=500, library="prodigyopt"),
}
"""By `optimizer.name`; "auto" becomes one of these before it is asked."""


def demands_of(name: str) -> Demands:
    """The demands of an optimizer; those that are automatic demand nothing."""
    return DEMANDS.get(name, Demands())


def demands_in_words() -> str:
    """A sentence for each optimizer that demands something, for the help."""
    return " ".join(sentence for name, demands in DEMANDS.items() if (sentence := _in_words(name, demands)))


def _in_words(name: str, demands: Demands) -> str:
    parts = []
    if demands.finds_rate:
        parts.append("finds its own learning rate")
    if demands.one_rate:
        parts.append("takes one rate for all that is trained")
    if demands.whole_gradient:
        parts.append("moves all weights together")
    if demands.fewest_steps:
        parts.append(f"needs {demands.fewest_steps} steps or more")
    if demands.devices:
        parts.append(f"runs on {' and '.join(demands.devices)} only")
    return f"{name} {', '.join(parts)}." if parts else ""
