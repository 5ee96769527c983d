"""CLIP's tokenizer, made from the word list of open_clip."""

import gzip
import importlib.util
import json
import string
import types

import pytest

from lib_finetune.text import tokenizer

MERGES = 48894


@pytest.fixture
def open_clip(tmp_path, monkeypatch):
    """A package of the name with a word list: its first line tells the version, and there are more merges than CLIP reads."""
    letters = string.ascii_lowercase
    short = [first + second for first in letters for second in letters]
    long = [f"{first} {second}" for first in short for second in short]  # of words that earlier merges make, as newer libraries demand
    pairs = [*(" ".join(word) for word in short), *long][:262_145]
    (tmp_path / "bpe_simple_vocab_16e6.txt.gz").write_bytes(
        gzip.compress("\n".join(['"bpe_simple_vocab_16e6.txt#version: 0.2', *pairs]).encode())
    )
    spec = types.SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: spec if name == "open_clip" else find(name, *rest))
    return pairs


def test_the_files_have_clips_vocabulary_in_its_order(tmp_path, open_clip):
    tokenizer.write_files(tmp_path / "files")
    words = json.loads((tmp_path / "files/vocab.json").read_text(encoding="utf-8"))
    assert len(words) == 49408 and sorted(words.values()) == list(range(49408))
    assert (words["!"], words["a"], words["!</w>"], words["aa"]) == (0, 64, 256, 512)
    assert (words["<|startoftext|>"], words["<|endoftext|>"]) == (49406, 49407)
    merges = (tmp_path / "files/merges.txt").read_text(encoding="utf-8").splitlines()
    assert merges == ["#version: 0.2", *open_clip[:MERGES]]
    config = json.loads((tmp_path / "files/tokenizer_config.json").read_text(encoding="utf-8"))
    assert (config["bos_token"], config["pad_token"], config["model_max_length"]) == ("<|startoftext|>", "<|endoftext|>", 77)


def test_words_become_the_ids_of_clip(tmp_path, open_clip):
    ids = tokenizer.load(tmp_path / "files")("a !")["input_ids"]
    assert ids == [49406, 256 + 64, 256, 49407]


def test_a_damaged_file_is_made_anew_and_a_whole_one_stays(tmp_path, open_clip):
    tokenizer.load(tmp_path / "files")
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "files").iterdir()}
    tokenizer.load(tmp_path / "files")
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "files").iterdir()} == times
    (tmp_path / "files/merges.txt").write_text("#version: 0.2\n")
    tokenizer.load(tmp_path / "files")
    assert len((tmp_path / "files/merges.txt").read_text(encoding="utf-8").splitlines()) == MERGES + 1
