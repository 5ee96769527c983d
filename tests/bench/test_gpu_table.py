"""The table of GPUs in the documents is the one that the memory model gives."""

import itertools
from pathlib import Path

from bench import gpu_table


def test_the_document_holds_the_table_that_is_computed():
    document = (Path(__file__).resolve().parents[2] / "docs" / "gpus.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in document if line.startswith("|")] == gpu_table.table()


def test_more_memory_never_takes_a_method_away():
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in gpu_table.table()[2:]]
    for form in {tuple(row[1:3]) for row in rows}:
        own = [row[3:] for row in rows if tuple(row[1:3]) == form]
        for smaller, larger in itertools.pairwise(own):
            assert all(after.startswith("yes") or before == "no" for before, after in zip(smaller, larger, strict=True))
