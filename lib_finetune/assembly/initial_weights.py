"""What patches and their word begin with when it is not nothing: a LoRA file, named by `network.start`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_finetune.assembly.method_traits import patches, teaches_word
from lib_finetune.config.fields import replaced, value_at
from lib_finetune.config.settings import Settings
from lib_finetune.errors import InputError, Problem
from lib_finetune.export import bundled_word, lora_file
from lib_finetune.files import at_home
from lib_finetune.training.adapters import start

if TYPE_CHECKING:
    import torch

    from lib_finetune.training.adapters import Adapter


def file_of(settings: Settings) -> Path | None:
    """The file, where one is named and the method has patches."""
    name = settings.network.start.strip()
    return at_home(name) if name and patches(settings) else None


def problems(settings: Settings) -> list[Problem]:
    """What is wrong with the file, and which settings must be others to begin with it."""
    path = file_of(settings)
    if path is None:
        return []
    try:
        demanded = start.demands(_parts(path)[0], path.name)
        word = vectors(settings)
    except InputError as error:
        return list(error.problems)
    if word is not None:
        demanded["embedding.vectors"] = len(word)
    present = {field: value_at(settings, field) for field in demanded}
    return [
        Problem(field, f"is {_spoken(present[field])}, but {path.name} has {_spoken(value)}. Set it to {_spoken(value)}.")
        for field, value in demanded.items()
        if not start.agrees(present[field], value)
    ]


def vectors(settings: Settings) -> torch.Tensor | None:
    """What the word begins with by the file: [n, width] of its only word, or of that with the result's name.

    None: the file brings no word, the method teaches none, or `embedding.init` says otherwise.

    Raises:
        InputError: the file cannot be read, or brings several words.
    """
    path = file_of(settings)
    if path is None or settings.embedding.init or not teaches_word(settings):
        return None
    words = _parts(path)[1]
    vectors_of_word = next(iter(words.values())) if len(words) == 1 else words.get(settings.name)
    if words and vectors_of_word is None:
        message = f"{path.name} brings {len(words)} words, none of them {settings.name}. Say what the word begins with."
        raise InputError([Problem("embedding.init", message)])
    return vectors_of_word


def brings_word(settings: Settings) -> bool:
    """Whether the word begins with that of the file; a file that cannot be read is reported by `problems`."""
    try:
        return vectors(settings) is not None
    except InputError:
        return False


def notes(settings: Settings) -> list[str]:
    """What is to be said about the file.

    Raises:
        InputError: it cannot be read.
    """
    path = file_of(settings)
    if path is None:
        return []
    lost = [] if teaches_word(settings) else sorted(_parts(path)[1])
    left = f" Its word {', '.join(lost)} will not be in the result; choose pivotal_tuning to keep training it." if lost else ""
    return [f"The patches begin with those of {path.name}.{left}"]


def without_missing_start_file(settings: Settings) -> Settings:
    """For a run that resumes: a start file that is gone is not needed, because the state holds what came of it."""
    path = file_of(settings)
    gone = path is not None and settings.method == "lora" and not path.is_file()
    return replaced(settings, start.FIELD, "") if gone else settings


def put(settings: Settings, adapter: Adapter) -> None:
    """Put the file's patches into an adapter that was just made.

    Raises:
        InputError: the file cannot be read or does not fit.
    """
    if path := file_of(settings):
        start.begin(adapter, _parts(path)[0], path.name)


def _parts(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """(patches, words) of a file."""
    return bundled_word.parted(lora_file.read(path, start.FIELD))


def _spoken(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
