"""What a training of nano is given: a small model takes larger rates than SD1.5, so these say nothing about SD1.5."""

from __future__ import annotations

from lib_finetune.errors import InputError, Problem

from .world import SIZE_PX

_ALL = {
    # What a drawing shows and where is settled at high noise, and there are few steps to learn it in.
    "objective.timestep_min": "250",
    "objective.min_snr_gamma": "0",
    "data.resolution": str(SIZE_PX),
    "training.batch": "2",
    "preview.enabled": "false",
    "saving.overwrite": "true",
}
PRESETS: dict[str, dict[str, str]] = {
    "lora": {**_ALL, "training.steps": "500", "optimizer.unet_rate": "2e-3", "optimizer.text_encoder_rate": "1e-3"},
    "dreambooth": {**_ALL, "training.steps": "500", "optimizer.unet_rate": "3e-4", "optimizer.text_encoder_rate": "1e-4"},
    "textual_inversion": {**_ALL, "training.steps": "500", "embedding.rate": "2e-2"},
    "pivotal_tuning": {
        **_ALL,
        "training.steps": "200",
        "optimizer.unet_rate": "1e-3",
        "optimizer.text_encoder_rate": "5e-4",
        "embedding.rate": "1e-2",
    },
}
"""Settings by method: dotted name → value as typed."""


def preset(method: str) -> dict[str, str]:
    """The settings of a method.

    Raises:
        InputError: nano has none for it.
    """
    if method not in PRESETS:
        raise InputError([Problem("--method", f"nano has no preset for {method!r}; there are {', '.join(PRESETS)}.")])
    return dict(PRESETS[method])
