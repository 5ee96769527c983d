"""Metadata of a file. Of a LoRA: kohya's ``ss_*`` set and modelspec's. Strings only, no private paths.

Reference: sd-scripts' `train_network.py` for ``ss_*``; Stability-AI/ModelSpec 1.0.0 for ``modelspec.*``.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lib_finetune import __version__


@dataclass(frozen=True)
class Recipe:
    """What a file tells about its making.

    Attributes:
        name: file stem; the word in ``<lora:…>``.
        network_module: kohya's name of the adapter's kind.
        network_args: its further options.
        buckets: (width, height) → number of images.
        folders: folder name (no path) → number of images.
        repeats: folder name → how often each of its images comes in an epoch.
        epoch: (images with their repeats, batches) of an epoch.
        captions: of all images, for the tag frequencies, each with the folder that its image lies in.
        settings: the whole settings tree as JSON without private paths.
        inherited: metadata of the base file that readers of a whole checkpoint need.
    """

    name: str
    network_module: str
    rank: int
    alpha: float
    network_args: Mapping[str, Any]
    checkpoint: str
    checkpoint_sha256: str | None
    checkpoint_short_hash: str | None
    vae: str | None
    prediction: str
    clip_skip: int
    resolution: int
    steps: int
    epochs: int
    rates: Mapping[str, float]
    optimizer: str
    schedule: str
    seed: int
    started_at: float
    settings: str
    trigger: str = ""
    buckets: Mapping[tuple[int, int], int] = field(default_factory=dict)
    folders: Mapping[str, int] = field(default_factory=dict)
    repeats: Mapping[str, int] = field(default_factory=dict)
    epoch: tuple[int, int] = (0, 0)
    captions: Iterable[tuple[str, str]] = ()
    inherited: Mapping[str, str] = field(default_factory=dict)


def lora_metadata(recipe: Recipe) -> dict[str, str]:
    """All metadata but the hashes, which depend on the tensors."""
    own = {"finetune_settings": recipe.settings, "finetune_rates": _rates(recipe)}
    return {name: value for name, value in {**_ss(recipe), **_modelspec(recipe), **own}.items() if value != ""}


def embedding_metadata(recipe: Recipe) -> dict[str, str]:
    """Metadata of an embedding; the WebUI reads none of it, people and other tools may."""
    spec = {**_modelspec(recipe), "modelspec.architecture": "stable-diffusion-v1/textual-inversion"}
    about_checkpoint = {
        "sd_checkpoint": recipe.checkpoint_short_hash or "",
        "sd_checkpoint_name": recipe.checkpoint,
        "step": str(recipe.steps),
        "ss_clip_skip": str(recipe.clip_skip),
    }
    own = {"name": recipe.name, "finetune_settings": recipe.settings, "finetune_rates": _rates(recipe)}
    return {name: value for name, value in {**spec, **about_checkpoint, **own}.items() if value}


def _rates(recipe: Recipe) -> str:
    """The highest learning rate of each group of what was trained; kohya's keys have no word, and one rate for all patches of a part."""
    return json.dumps({group: rate for group, rate in recipe.rates.items() if rate})


def _ss(recipe: Recipe) -> dict[str, str]:
    trained = {name: rate for name, rate in recipe.rates.items() if rate}
    return {
        "ss_output_name": recipe.name,
        "ss_base_model_version": "sd_v1",
        "ss_v2": "False",
        "ss_sd_model_name": recipe.checkpoint,
        "ss_sd_model_hash": recipe.checkpoint_short_hash or "",
        "ss_new_sd_model_hash": recipe.checkpoint_sha256 or "",
        "ss_vae_name": recipe.vae or "",
        "ss_network_module": recipe.network_module,
        "ss_network_dim": str(recipe.rank),
        "ss_network_alpha": str(recipe.alpha),
        "ss_network_args": json.dumps(dict(recipe.network_args)),
        "ss_steps": str(recipe.steps),
        "ss_max_train_steps": str(recipe.steps),
        "ss_epoch": str(recipe.epochs),
        "ss_learning_rate": str(recipe.rates.get("unet", "")),
        "ss_unet_lr": str(trained.get("unet", "None")),
        "ss_text_encoder_lr": str(trained.get("text encoder", "None")),
        "ss_optimizer": recipe.optimizer,
        "ss_lr_scheduler": recipe.schedule,
        "ss_seed": str(recipe.seed),
        "ss_clip_skip": str(recipe.clip_skip),
        "ss_resolution": f"({recipe.resolution}, {recipe.resolution})",
        "ss_num_train_images": str(recipe.epoch[0]),
        "ss_num_batches_per_epoch": str(recipe.epoch[1]),
        "ss_training_started_at": str(recipe.started_at),
        "ss_training_finished_at": str(time.time()),
        "ss_bucket_info": json.dumps(_bucket_info(recipe.buckets)),
        "ss_dataset_dirs": json.dumps(
            {name: {"n_repeats": recipe.repeats.get(name, 1), "img_count": count} for name, count in recipe.folders.items()}
        ),
        "ss_tag_frequency": json.dumps(_tag_frequency(recipe)),
        "ss_training_comment": f"Finetune {__version__}",
    }


def _bucket_info(buckets: Mapping[tuple[int, int], int]) -> dict[str, Any]:
    return {
        "buckets": {str(place): {"resolution": list(size), "count": count} for place, (size, count) in enumerate(sorted(buckets.items()))}
    }


def _tag_frequency(recipe: Recipe) -> dict[str, dict[str, int]]:
    by_folder: dict[str, Counter[str]] = {}
    for folder, caption in recipe.captions:
        by_folder.setdefault(folder, Counter()).update(tag.strip() for tag in caption.split(",") if tag.strip())
    return {folder: dict(tags.most_common(500)) for folder, tags in by_folder.items()}


def _modelspec(recipe: Recipe) -> dict[str, str]:
    return {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.title": recipe.name,
        "modelspec.resolution": f"{recipe.resolution}x{recipe.resolution}",
        "modelspec.date": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()),
        "modelspec.prediction_type": "v" if recipe.prediction == "v_prediction" else "epsilon",
        "modelspec.trigger_phrase": recipe.trigger,
        "modelspec.usage_hint": usage_hint(recipe.clip_skip),
    }


def usage_hint(clip_skip: int) -> str:
    """What is set in the WebUI so that images see what training saw."""
    return f"Set clip skip to {clip_skip}, as in training."
