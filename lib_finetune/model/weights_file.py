"""A file of weights of other people, whatever form it has and whatever its name ends in: the names, shapes and values of its tensors."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lib_finetune import regular_files
from lib_finetune.errors import CheckpointError, Problem
from lib_finetune.model import file_beginning, file_kinds, pickled, safetensors_reader, tensor_file
from lib_finetune.model.numpy_pickles import Array
from lib_finetune.model.tensor_file import Entry

_WRAPPERS = (
    "state_dict", "model_state_dict", "model", "module", "net", "unet", "weights", "params_ema", "params", "ema", "ema_state_dict", "model_ema",
)  # fmt: skip
"""Under which names programs put the weights beside what else they save, the plain weights before their average."""
_PREFIXES = ("module.", "_orig_mod.", "_forward_module.")
"""What programs that wrap a model leave before all of its names."""
_DEEPEST = 4


@dataclass(frozen=True)
class WeightsFile:
    """
    Attributes:
        tensors: by their names in the file, without what a wrapper put around them; read when they are asked for.
        metadata: of a ``.safetensors``; empty for others.
    """

    tensors: dict[str, Entry]
    metadata: Mapping[str, str]

    def contents(self) -> file_kinds.Contents:
        """Kind and family."""
        return file_kinds.identify({name: entry.shape for name, entry in self.tensors.items()})


@contextmanager
def opened(path: Path, field: str) -> Iterator[WeightsFile]:
    """A file, for as long as its tensors are asked for.

    Args:
        field: what a problem is reported under.

    Raises:
        CheckpointError: missing, broken, or nothing that holds weights; the message says what it is and what to do.
    """
    refuse_absent(path, field)
    with ExitStack() as stack:
        with in_words(path, field):
            weights = _weights(path, field, stack)
        try:
            yield weights
        finally:
            weights.tensors.clear()  # what is mapped keeps the file open, and Windows then lets nobody replace it


def _weights(path: Path, field: str, stack: ExitStack) -> WeightsFile:
    if file_beginning.container(path) != file_beginning.SAFETENSORS:
        return WeightsFile(_without_prefix(_pickled(path)), {})
    tensors, metadata = stack.enter_context(safetensors_reader.opened(path))
    guarded = {name: Entry(entry.dtype, entry.shape, _guarded(entry, path, field)) for name, entry in tensors.items()}
    return WeightsFile(_without_prefix(guarded), metadata)


def _guarded(entry: Entry, path: Path, field: str) -> Callable[[], torch.Tensor]:
    def value() -> torch.Tensor:
        with in_words(path, field):
            return entry.value()

    return value


@contextmanager
def in_words(path: Path, field: str) -> Iterator[None]:
    """What readers of this room say of a file, as an error of its field.

    Raises:
        CheckpointError: in place of what was raised, with the file's name.
    """
    try:
        yield
    except ValueError as error:
        raise CheckpointError([Problem(field, f"{path.name} {error}")]) from error
    except pickled.ForeignFileError as error:
        raise CheckpointError([Problem(field, str(error))]) from error
    except OSError as error:
        message = f"{path.name} cannot be read ({error.strerror or error}). Check the disk and the file's permissions."
        raise CheckpointError([Problem(field, message)]) from error


def metadata(path: Path, field: str) -> dict[str, str]:
    """Metadata of a ``.safetensors``, whatever its tensors are; empty for others.

    Raises:
        CheckpointError: missing or broken.
    """
    refuse_absent(path, field)
    with in_words(path, field):
        if file_beginning.container(path) != file_beginning.SAFETENSORS:
            return {}
        return safetensors_reader.metadata(path)


def refuse_other_kinds(path: Path, field: str, weights: WeightsFile, kind_name: str) -> None:
    """
    Args:
        kind_name: "checkpoint", "LoRA" or "embedding".

    Raises:
        CheckpointError: the file is of another kind or family, by name.
    """
    if reason := file_kinds.fault(weights.contents(), kind_name):
        raise CheckpointError([Problem(field, f"{path.name} {reason}")])
    if part := file_kinds.quantised(weights.tensors):
        message = f"{path.name} holds its weights in a packed or scaled form (the part {part}). Use the fp16, bf16 or fp32 version of it."
        raise CheckpointError([Problem(field, message)])


def refuse_absent(path: Path, field: str, advice: str = "Name a file that is there.") -> None:
    """
    Args:
        advice: what to do where it does not exist.

    Raises:
        CheckpointError: there is no such file, or it is a folder, or may not be looked at.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last one: with what no name has
        raise CheckpointError([Problem(field, f"{path} does not exist. {advice}".rstrip())]) from None
    except OSError as error:
        raise CheckpointError([Problem(field, f"{str(path)[:200]} cannot be read ({error.strerror or error}).")]) from error
    if stat.S_ISDIR(mode):
        raise CheckpointError([Problem(field, f"{path} {_folder(path)}")])
    if reason := regular_files.fault(path):
        raise CheckpointError([Problem(field, f"{path} cannot be read: {reason}. {advice}".rstrip())])


def _folder(path: Path) -> str:
    if (path / "model_index.json").is_file():
        return "is a folder in the form of diffusers. Name a single file; diffusers' convert_diffusers_to_original_stable_diffusion.py makes one."
    if (path / "config.json").is_file():
        return "is a folder with one part of a model in the form of diffusers. Name the single file of a whole model."
    if (path / "adapter_config.json").is_file():
        return "is a folder with a LoRA in the form of peft. Convert it to kohya's form (diffusers' convert_state_dict_to_kohya does), and name that file."
    return "is a folder; name a .safetensors or .ckpt file."


def _pickled(path: Path) -> dict[str, Entry]:
    content = _unwrapped(pickled.load(path))
    named = isinstance(content, Mapping) or (isinstance(content, (list, tuple)) and len(content) > 1)  # the first LoRA trainer wrote lists
    tensors = _flat(content) if named else {}
    for name, tensor in tensors.items():
        if tensor.dtype not in tensor_file.NAMES:
            raise ValueError(safetensors_reader.unreadable(name, str(tensor.dtype).removeprefix("torch.")))
    return {name: tensor_file.entry(tensor) for name, tensor in tensors.items()}


def _unwrapped(content: Any) -> Any:
    for _ in range(_DEEPEST):
        if not isinstance(content, Mapping) or any(
            isinstance(value, (torch.Tensor, Array)) and "." in str(name) for name, value in content.items()
        ):
            break
        inside = next((content[name] for name in _WRAPPERS if isinstance(content.get(name), Mapping) and _flat(content[name])), None)
        if inside is None:
            break
        content = inside
    return content


def _flat(content: Any, prefix: str = "", depth: int = 0) -> dict[str, torch.Tensor]:
    """All tensors below a mapping, list or tuple, by the names on the way to them with dots between."""
    content = content.tensor if isinstance(content, Array) else content
    if isinstance(content, torch.Tensor):
        return {prefix: content}
    if depth == _DEEPEST or not isinstance(content, (Mapping, list, tuple)):
        return {}
    pairs = content.items() if isinstance(content, Mapping) else enumerate(content)
    tensors: dict[str, torch.Tensor] = {}
    for name, value in pairs:
        tensors |= _flat(value, f"{prefix}.{name}" if prefix else str(name), depth + 1)
    return tensors


def _without_prefix(tensors: dict[str, Entry]) -> dict[str, Entry]:
    prefix = next((prefix for prefix in _PREFIXES if tensors and all(name.startswith(prefix) for name in tensors)), None)
    return tensors if prefix is None else _without_prefix({name.removeprefix(prefix): entry for name, entry in tensors.items()})
