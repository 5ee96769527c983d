"""What a method makes: the kind of file, where it goes, how it is written, and how a prompt calls it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lib_finetune.assembly.method_traits import bundles_word
from lib_finetune.export import checkpoint_writer, embedding_file, lora_file
from lib_finetune.export.metadata import Recipe, lora_metadata

if TYPE_CHECKING:
    import torch

    from lib_finetune.config.settings import Settings
    from lib_finetune.model.tensor_file import Entry
    from lib_finetune.ports.files import Paths

    Base = Callable[[], AbstractContextManager[Mapping[str, Entry]]]


@dataclass(frozen=True)
class ArtifactKind:
    """
    Attributes:
        kind: as `HostFiles.artifact_saved` names it.
        folder: where the host looks for such files.
        suffix: of the file.
        write: writes it, given also the tensors of the base file; raises SaveError.
        call: how a prompt calls a file of this stem.
    """

    kind: str
    folder: Callable[[Paths], Path]
    suffix: Callable[[Settings], str]
    write: Callable[[Path, Mapping[str, torch.Tensor], Recipe, Settings, Base], None]
    call: Callable[[str, Settings], str]

    def target(self, paths: Paths, settings: Settings, name: str) -> Path:
        """Where a file of this name goes."""
        return self.folder(paths) / f"{name}{self.suffix(settings)}"


def _write_checkpoint(path: Path, tensors: Mapping[str, torch.Tensor], recipe: Recipe, settings: Settings, base: Base) -> None:
    with base() as entries:
        metadata = checkpoint_writer.metadata(recipe, settings.objective.prior)
        checkpoint_writer.write(path, tensors, entries, {**recipe.inherited, **metadata}, settings.saving.precision)


def _patches_and_word(path: Path, tensors: Mapping[str, torch.Tensor], recipe: Recipe, settings: Settings, _: Base) -> None:
    patches = {name: value for name, value in tensors.items() if name != embedding_file.KEY}
    words = {settings.name: tensors[embedding_file.KEY]} if bundles_word(settings) else {}
    lora_file.write(path, patches, lora_metadata(recipe), settings.saving.precision, words)


def _lora_with_word(stem: str, settings: Settings) -> str:
    word = settings.name if bundles_word(settings) else stem
    return f"{word} <lora:{stem}:{settings.preview.weight:g}>"


ARTIFACT_KINDS = {
    "lora": ArtifactKind(
        "lora",
        lambda paths: paths.lora,
        lambda _: ".safetensors",
        lambda path, tensors, recipe, settings, _: lora_file.write(path, tensors, lora_metadata(recipe), settings.saving.precision),
        lambda stem, settings: f"<lora:{stem}:{settings.preview.weight:g}>",
    ),
    "dreambooth": ArtifactKind(
        "checkpoint",
        lambda paths: paths.checkpoints,
        lambda settings: f".{settings.tuning.format}",
        _write_checkpoint,
        lambda stem, _: f"choose {stem} at the top left",
    ),
    "textual_inversion": ArtifactKind(
        "embedding",
        lambda paths: paths.embeddings,
        lambda settings: f".{settings.embedding.format}",
        lambda path, tensors, recipe, _, __: embedding_file.write(path, tensors, recipe),
        lambda stem, _: f"write {stem} in a prompt",
    ),
    "pivotal_tuning": ArtifactKind("lora", lambda paths: paths.lora, lambda _: ".safetensors", _patches_and_word, _lora_with_word),
}


def artifact_kind_of(settings: Settings) -> ArtifactKind:
    """The product of the settings' method."""
    return ARTIFACT_KINDS[settings.method]


def artifact_kinds_of(settings: Settings) -> tuple[ArtifactKind, ...]:
    """All that the settings' method makes, its own product first; they are of different kinds."""
    apart = settings.method == "pivotal_tuning" and not bundles_word(settings)
    return (artifact_kind_of(settings), *([ARTIFACT_KINDS["textual_inversion"]] if apart else []))


def targets(settings: Settings, paths: Paths, name: str) -> dict[str, Path]:
    """Kind → where the files of a result of this name go, the main one first."""
    return {kind.kind: kind.target(paths, settings, name) for kind in artifact_kinds_of(settings)}
