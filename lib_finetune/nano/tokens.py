"""The real CLIP tokenizer, built from the byte-pair file that the package open-clip-torch brings: no download."""

from __future__ import annotations

import gzip
import json
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from lib_finetune.errors import DependencyError

if TYPE_CHECKING:
    import torch
    from transformers import CLIPTokenizer

_BPE_FILE = "bpe_simple_vocab_16e6.txt.gz"
_MERGES = 49152 - 256 - 2
START, END = "<|startoftext|>", "<|endoftext|>"


def write_tokenizer(folder: Path) -> None:
    """Write vocab.json, merges.txt and their small companions, as transformers' CLIPTokenizer reads them.

    Raises:
        DependencyError: open-clip-torch is not installed.
    """
    lines = _read_bpe().split("\n")[1 : _MERGES + 1]
    letters = list(_byte_letters().values())
    words = letters + [letter + "</w>" for letter in letters] + ["".join(line.split()) for line in lines] + [START, END]
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "vocab.json", json.dumps({word: index for index, word in enumerate(words)}, ensure_ascii=False))
    _write(folder / "merges.txt", "#version: 0.2\n" + "\n".join(lines) + "\n")
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    _write(folder / "special_tokens_map.json", json.dumps(special, indent=2))
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True, "add_prefix_space": False, **special}
    _write(folder / "tokenizer_config.json", json.dumps(settings, indent=2))


@lru_cache(maxsize=1)
def tokenizer() -> CLIPTokenizer:
    """The tokenizer, ready for use."""
    from tempfile import TemporaryDirectory

    from transformers import CLIPTokenizer

    with TemporaryDirectory() as folder:
        write_tokenizer(Path(folder))
        return CLIPTokenizer.from_pretrained(folder)


def encode(texts: list[str]) -> torch.Tensor:
    """Prompts → ids: [b, 77] int64, padded with the end token."""
    return tokenizer()(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids


def _read_bpe() -> str:
    spec = find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        raise DependencyError(f"The tokenizer is built from {_BPE_FILE} of open-clip-torch: pip install open-clip-torch==2.20.0 --no-deps")
    return gzip.decompress((Path(spec.submodule_search_locations[0]) / _BPE_FILE).read_bytes()).decode("utf-8")


def _byte_letters() -> dict[int, str]:
    """Every byte as a printable letter, in the order of CLIP's vocabulary (openai/CLIP, simple_tokenizer.py)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + index) for index, byte in enumerate(others)}


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
