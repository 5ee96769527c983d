"""CLIP's tokenizer without a model hub, from the merges file that the package open-clip-torch brings."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

from lib_finetune.errors import DependencyError, Problem
from lib_finetune.files import write_atomically

_MERGES = 49152 - 256 - 2
_FILES = ("vocab.json", "merges.txt", "tokenizer_config.json")
_DIGESTS = "digests.json"
SPECIAL = ("<|startoftext|>", "<|endoftext|>")


def load(folder: Path) -> Any:
    """A transformers CLIPTokenizer with the ids of OpenAI's CLIP (start 49406, end 49407).

    Args:
        folder: where vocab.json and merges.txt are kept; made on first use.

    Raises:
        DependencyError: open-clip-torch is not installed.
    """
    from transformers import CLIPTokenizer

    if not _is_whole(folder):
        try:
            write_files(folder)
        except DependencyError:
            if not all((folder / name).is_file() for name in _FILES):  # else those of an earlier version, which kept no digests
                raise
    return CLIPTokenizer.from_pretrained(str(folder))


def write_files(folder: Path) -> None:
    """Write vocab.json, merges.txt and tokenizer_config.json of CLIP's tokenizer into a folder.

    The vocabulary is the 256 byte characters, the same at a word's end, the merges in order, and the two special tokens:
    Radford et al., Learning Transferable Visual Models From Natural Language Supervision, `simple_tokenizer.py`.

    Raises:
        DependencyError: open-clip-torch is not installed.
    """
    merges = _merges()
    letters = _byte_characters()
    words = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair.split()) for pair in merges), *SPECIAL]
    write_atomically(folder / "vocab.json", json.dumps({word: number for number, word in enumerate(words)}, ensure_ascii=False).encode())
    write_atomically(folder / "merges.txt", ("#version: 0.2\n" + "\n".join(merges) + "\n").encode())
    start, end = SPECIAL
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "bos_token": start,
        "eos_token": end,
        "unk_token": end,
        "pad_token": end,
        "model_max_length": 77,
    }
    write_atomically(folder / "tokenizer_config.json", json.dumps(config, indent=1).encode())
    write_atomically(folder / _DIGESTS, json.dumps({name: _digest(folder / name) for name in _FILES}, indent=1).encode())


def _is_whole(folder: Path) -> bool:
    """Whether the files are there as they were written."""
    try:
        digests = json.loads((folder / _DIGESTS).read_text(encoding="utf-8"))
        return all(digests[name] == _digest(folder / name) for name in _FILES)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _merges() -> list[str]:
    spec = importlib.util.find_spec("open_clip")  # importing it would need torchvision
    places = list(spec.submodule_search_locations or ()) if spec else []
    for place in places:
        file = Path(place) / "bpe_simple_vocab_16e6.txt.gz"
        if file.is_file():
            return gzip.decompress(file.read_bytes()).decode("utf-8").split("\n")[1 : _MERGES + 1]
    hint = "CLIP's word list comes with open-clip-torch, which is not installed. Add it with: pip install --no-deps open-clip-torch==2.20.0"
    raise DependencyError([Problem("", hint)])


def _byte_characters() -> list[str]:
    """One printable character for each byte, in the order of CLIP's vocabulary."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + place) for place in range(len(rest))]
