"""A LoRA from the difference between a DreamBooth result and the checkpoint that it was trained on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from lib_finetune import __version__
from lib_finetune.app.written_lora import WrittenLora, about_ranks, card_beside, rank_metadata
from lib_finetune.assembly.builder import lora_names
from lib_finetune.errors import CheckpointError, InputError, Problem
from lib_finetune.export.checkpoint_writer import DTYPES
from lib_finetune.export.extraction import Extraction, extract
from lib_finetune.export.low_rank import Keep
from lib_finetune.model import checkpoint_reader, layout, weights_file
from lib_finetune.model.borrowed import BorrowedModel
from lib_finetune.model.checkpoint_reader import ldm_name
from lib_finetune.model.names import KOHYA_TEXT
from lib_finetune.model.shapes import interchangeable
from lib_finetune.model.soundness import not_finite
from lib_finetune.model.tensor_file import Entry

_BASE_NAME, _BASE_HASH = "finetune_base", "finetune_base_sha256"
_INHERITED = ("finetune_settings", "finetune_version", "ss_clip_skip", "modelspec.trigger_phrase", "modelspec.usage_hint", "modelspec.resolution",
              "modelspec.prediction_type")  # fmt: skip
"""Metadata of the result that hold for its LoRA, too."""
_LARGE_CHANGE = 0.2
"""Of ‖W‖. Trainings of one subject change some hundredths; models of different makers differ by more."""


@dataclass(frozen=True)
class ExtractionWish:
    """
    Attributes:
        result, base: the two checkpoints.
        precision: of the file, "fp16", "bf16" or "fp32".
        conv: whether convolutions outside of attention are in it, too.
    """

    result: Path
    base: Path
    keep: Keep
    precision: str
    conv: bool


def base_of(result: Path, folder: Path) -> Path:
    """The checkpoint below ``folder`` that a result says it was trained on.

    Raises:
        InputError: it does not say so, or there is none of that name.
    """
    name = checkpoint_reader.metadata(result).get(_BASE_NAME, "")
    if not name:
        raise InputError([Problem("base", f"is empty, and {result.name} does not say what it was trained on. Choose that checkpoint.")])
    stem = name.rpartition(" [")[0] or name  # as the WebUI titles it
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.suffix.lower() in (".safetensors", ".ckpt") and stem in (path.stem, path.name, path.relative_to(folder).as_posix()):
            return path
    message = f"is empty, and {name}, on which {result.name} was trained, is not in {folder}. Write the path of its file."
    raise InputError([Problem("base", message)])


def made(wish: ExtractionWish, name: str, progress: Callable[[int, int], None]) -> WrittenLora:
    """Extract; only a layer of each checkpoint is in memory at a time.

    Args:
        name: of the LoRA.
        progress: told (done, total) before each weight; what it raises ends the work.

    Raises:
        InputError: a file is no checkpoint of SD1.x, is damaged, is not the base of the other, or both are alike.
    """
    if wish.result.resolve() == wish.base.resolve():
        raise InputError([Problem("base", f"{wish.base.name} is the result itself. Choose the checkpoint that it was trained on.")])
    about = checkpoint_reader.metadata(wish.result)
    digits = _checked_base(wish, about)
    extraction = _extraction(wish, progress)
    if not extraction.tensors:
        message = f"{wish.result.name} and {wish.base.name} hold the same weights, so there is no change to extract. Choose another one."
        raise InputError([Problem("checkpoint", message)])
    return WrittenLora(
        extraction.tensors,
        {**_metadata(wish, about, digits), **rank_metadata(name, extraction.ranks, f"extracted from {wish.result.name}")},
        card_beside(wish.result, about, f"Extracted with Finetune from {wish.result.stem}."),
        _lines(wish, extraction),
        extraction.error,
    )


def _checked_base(wish: ExtractionWish, about: Mapping[str, str]) -> str:
    """The base's hash where the result tells it, else "".

    Raises:
        InputError: the result was trained on another file.
    """
    wanted_digits = about.get(_BASE_HASH, "")
    if not wanted_digits:
        return ""
    weights_file.refuse_absent(wish.base, "base")
    digits = checkpoint_reader.sha256(wish.base)
    if digits != wanted_digits:
        message = (
            f"{wish.base.name} ({digits[:10]}) is not what {wish.result.name} was trained on: that is {about.get(_BASE_NAME) or 'a file'} "
            f"({wanted_digits[:10]}). Choose that checkpoint."
        )
        raise InputError([Problem("base", message)])
    return digits


def _extraction(wish: ExtractionWish, progress: Callable[[int, int], None]) -> Extraction:
    with weights_file.opened(wish.result, "checkpoint") as result, weights_file.opened(wish.base, "base") as base:
        weights_file.refuse_other_kinds(wish.result, "checkpoint", result, "checkpoint")
        weights_file.refuse_other_kinds(wish.base, "base", base, "checkpoint")
        trained, own = _by_ldm_name(result.tensors), _by_ldm_name(base.tensors)
        # The shapes tell the layout; no weight is read for it.
        shapes = {name: torch.empty(entry.shape, device="meta") for name, entry in trained.items()}
        model = BorrowedModel(layout.infer(shapes))
        sources = [source for view, source in model.sources().items() if not view.startswith("vae.")]
        _refuse_misfit(wish, trained, own, sources)
        modules = {source: module for source, module in lora_names(model).items() if wish.conv or _is_plain(module)}
        return extract(
            _LazyTensors(wish.result, "checkpoint", {source: trained[source] for source in sources}),
            _LazyTensors(wish.base, "base", own),
            modules,
            wish.keep,
            progress,
            DTYPES[wish.precision],
            rounded=True,
        )


def _by_ldm_name(tensors: Mapping[str, Entry]) -> dict[str, Entry]:
    return {ldm_name(name): entry for name, entry in tensors.items()}


def _is_plain(module: str) -> bool:
    """Whether a LoRA has it that is no LoCon: the layers of attention blocks and of the text encoder."""
    return "_attentions_" in module or module.startswith(KOHYA_TEXT)


def _refuse_misfit(wish: ExtractionWish, trained: Mapping[str, Entry], own: Mapping[str, Entry], names: list[str]) -> None:
    """
    Raises:
        InputError: one of the checkpoints lacks a weight, or has it in another size.
    """
    for path, entries, field in ((wish.result, trained, "checkpoint"), (wish.base, own, "base")):
        if missing := [name for name in names if name not in entries]:
            raise InputError([Problem(field, f"{path.name} has no {missing[0]}; it is no whole checkpoint. Choose another one.")])
    for name in names:
        if not interchangeable(trained[name].shape, own[name].shape):
            sizes = " and ".join("×".join(map(str, entry.shape)) for entry in (trained[name], own[name]))
            message = f"{wish.base.name} is not the base of {wish.result.name}: their {name} are of {sizes}. Choose the checkpoint that it was trained on."
            raise InputError([Problem("base", message)])


class _LazyTensors(Mapping[str, torch.Tensor]):
    """The tensors of an open file, each read when it is asked for and not kept."""

    def __init__(self, path: Path, field: str, entries: Mapping[str, Entry]) -> None:
        self._path = path
        self._field = field
        self._entries = entries

    def __getitem__(self, name: str) -> torch.Tensor:
        """
        Raises:
            CheckpointError: it holds what is no number.
        """
        value = self._entries[name].value()
        if not_finite({name: value}):
            raise CheckpointError(
                [Problem(self._field, f"{self._path.name} is damaged: {name} holds NaN or infinity. Choose another file.")]
            )
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _metadata(wish: ExtractionWish, about: Mapping[str, str], digits: str) -> dict[str, str]:
    values = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "ss_base_model_version": "sd_v1",
        "ss_v2": "False",
        "ss_sd_model_name": about.get(_BASE_NAME) or wish.base.name,
        "ss_new_sd_model_hash": digits,
        "ss_sd_model_hash": digits[:10],
        "ss_network_args": json.dumps({}),
        "ss_training_comment": f"Finetune {__version__}: extracted from {wish.result.name}",
        **{name: about[name] for name in _INHERITED if name in about},
    }
    return {name: value for name, value in values.items() if value}


def _lines(wish: ExtractionWish, extraction: Extraction) -> list[str]:
    lines = [
        f"The LoRA has {about_ranks(extraction.ranks)} in {len(extraction.ranks)} layers; {extraction.error:.0%} of the change is lost."
    ]
    with_text = any(name.startswith(KOHYA_TEXT) for name in extraction.tensors)
    lines.append("The text encoder is in it." if with_text else "The text encoder was not trained, so it is not in it.")
    if extraction.change > _LARGE_CHANGE:
        lines.append(
            f"The two differ by {extraction.change:.0%} of their weights, which is much for a training: {wish.base.name} may not be the base."
        )
    return lines
