"""The provenance of a file: what it records of its training, and which settings a run may change when it resumes."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_finetune.assembly.dataset import Dataset
from lib_finetune.assembly.method_traits import teaches_word
from lib_finetune.assembly.subjects import calling_words, subjects_of
from lib_finetune.config.codec import to_dict
from lib_finetune.config.fields import replaced, value_at
from lib_finetune.config.settings import Settings
from lib_finetune.data.plan import Plan as DataPlan
from lib_finetune.data.plan_report import bucket_counts
from lib_finetune.errors import CheckpointError
from lib_finetune.export import embedding_file
from lib_finetune.export.metadata import Recipe
from lib_finetune.model import checkpoint_reader

if TYPE_CHECKING:
    from lib_finetune.assembly.rate_plan import RatePlan
    from lib_finetune.ports.checkpoint import CheckpointInfo
    from lib_finetune.training.adapters import Adapter

_TEMPLATE = "embedding.template"
_RATES = ("optimizer.unet_rate", "optimizer.text_encoder_rate", "embedding.rate")


def recipe(settings: Settings, images: Dataset, plan: DataPlan, adapter: Adapter | None, info: CheckpointInfo, rates: RatePlan) -> Recipe:
    """What a file of this run records of its training; name and steps are those of the end unless others are named."""
    data, network, training = settings.data, settings.network, settings.training
    pictures = images.pictures
    steps = training.steps or 0
    return Recipe(
        name=settings.name,
        network_module=adapter.network_module if adapter else "",
        rank=network.rank,
        alpha=_alpha(settings, adapter),
        network_args=_network_args(settings),
        checkpoint=info.name,
        checkpoint_sha256=info.sha256,
        checkpoint_short_hash=info.short_hash,
        vae=info.vae,
        prediction=info.prediction,
        clip_skip=training.clip_skip or 1,
        resolution=data.resolution,
        steps=steps,
        epochs=-(-steps * training.accumulation // max(1, plan.epoch_steps)),
        rates=rates.highest_rates(),
        optimizer=settings.optimizer.name,
        schedule=settings.optimizer.schedule,
        seed=training.seed,
        started_at=time.time(),
        settings=public_settings(settings),
        trigger=_trigger_phrase(settings, images),
        buckets=bucket_counts(plan),
        folders=Counter(picture.path.parent.name for picture in pictures),
        repeats={picture.path.parent.name: picture.repeats for picture in pictures},
        epoch=(plan.epoch.views, plan.epoch.batches),
        captions=[(picture.path.parent.name, caption) for picture in plan.pictures for caption in plan.captioning.every(picture)],
        inherited=_inherited(info.path),
    )


def _alpha(settings: Settings, adapter: Adapter | None) -> float:
    """The alpha that the patches have; that of the settings where they differ."""
    network = settings.network
    stored = {float(value) for name, value in adapter.state().items() if name.endswith(".alpha")} if adapter else set()
    return stored.pop() if len(stored) == 1 and not network.conv_rank else network.alpha


def _trigger_phrase(settings: Settings, images: Dataset) -> str:
    """The trigger; of several subjects, or one that a folder's words call, what calls each."""
    subjects = subjects_of(settings, images)
    return settings.data.trigger if all(subject.main for subject in subjects) else calling_words(settings, subjects)


def _inherited(base: Path | None) -> dict[str, str]:
    known: Mapping[str, str] = {}
    if base and base.is_file():
        with suppress(CheckpointError):  # what a broken file told cannot be handed on
            known = checkpoint_reader.metadata(base)
    return {name: known[name] for name in ("text_encoder_heads",) if name in known}


def _network_args(settings: Settings) -> Mapping[str, str]:
    network = settings.network
    arguments: dict[str, str] = {}
    if network.adapter != "lora":
        arguments["algo"] = network.adapter
    if network.adapter == "lokr":
        arguments["factor"] = str(network.factor)
    if network.conv_rank:
        arguments |= {"conv_dim": str(network.conv_rank), "conv_alpha": str(network.conv_alpha)}
    if network.dropout:
        arguments["dropout"] = str(network.dropout)
    return arguments


def public_settings(settings: Settings) -> str:
    """The settings as JSON for a file that others may get: folders and files are named without their path."""
    files = ("embedding.init",) if embedding_file.names_file(settings.embedding.init) else ()
    for path in ("data.images", "data.class_images", "network.start", _TEMPLATE, *files):
        private = value_at(settings, path)
        settings = replaced(settings, path, Path(private).name if private else "")
    return json.dumps(to_dict(settings), ensure_ascii=False)


def changed_meaning(stored: str, settings: Settings) -> list[str]:
    """Dotted paths of settings that differ and on which the meaning of a saved state hangs; a learning rate may be lowered.

    Args:
        stored: `public_settings` of the run that wrote the state.
        settings: resolved, of the run that resumes from it.
    """
    now, then = _flat(json.loads(public_settings(settings))), _flat(json.loads(stored))
    if then.get(_TEMPLATE):  # earlier versions wrote it with its path
        then[_TEMPLATE] = Path(then[_TEMPLATE]).name
    free = free_settings(settings)
    return sorted(
        path
        for path in now.keys() | then.keys()
        if now.get(path) != then.get(path) and not path.startswith(free) and not _is_lowered(path, then.get(path), now.get(path))
    )


def _is_lowered(path: str, then: Any, now: Any) -> bool:
    """Whether a setting is a learning rate that is lower than before: what a run that went wrong resumes with."""
    return path in _RATES and isinstance(then, float) and isinstance(now, float) and 0 < now < then


def stored_settings(stored: str) -> dict[str, Any]:
    """Dotted path → value, of `public_settings` that were stored."""
    return _flat(json.loads(stored))


def free_settings(settings: Settings) -> tuple[str, ...]:
    """The settings that may differ when a run resumes from a saved state."""
    paths = ["name", "training.steps", "optimizer.further", "saving.", "preview.", "tuning.host_weights"]
    if teaches_word(settings):
        paths.append("data.trigger")  # it follows the name
    if not (teaches_word(settings) and settings.embedding.keep_norm):
        paths.append("network.start")  # the state holds what came of it; but a length that is kept is that of the beginning
    return tuple(paths)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        leaves |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return leaves
