"""Names inside the package are the field's own: no word of an earlier private vocabulary comes back, and a value is named for what it is."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "lib_finetune"
FILES = sorted(PACKAGE.rglob("*.py"))

#: Words of names that the field has others for: `Trainings`, `MethodAdvisor`, `Presets`, `Datasets`, `ComparisonGrid`, `feedback`,
#: `BackgroundTask`, `NullSink`, `ModelSwap`, `LossLog`, `LatestOnly`, `choose_memory_plan`, `choose_checkpointing`.
OLD_WORDS = {
    "desk", "counsel", "shelf", "album", "sheet", "sheets", "verdict", "errand", "errands", "nobody", "exchange", "ledger", "turnstile",
    "formed", "sparing", "spared", "patiently",
}  # fmt: skip
#: Whole names: `Session`, `ParameterSlot`, `Snapshot`, `temporarily_loaded`.
OLD_NAMES = {"Way", "Seat", "Point", "Points", "standing_in"}
#: What something was done to is not what it is.
PARTICIPLES = {"told", "said", "given", "made", "found", "wanted", "one", "kept"}

#: Files of one name, where the folder tells them apart.
SHARED_FILE_NAMES = {
    "about": {"api", "app"},  # the resource, and what it answers
    "access": {"", "host/webui"},  # who may ask, and what the WebUI says of that
    "captions": {"data", "ports", "host/headless", "host/webui"},  # of a dataset; the host's captioners
    "control": {"jobs", "runs"},  # the buttons of a job, and the questions of a run
    "datasets": {"api", "app"},
    "file_kinds": {"data", "model"},  # of what lies in a folder of images, and of files of weights
    "files": {"", "ports", "host/headless", "host/webui"},  # writing, and what hosts hear of files
    "host": {"ports", "host/headless", "host/webui"},
    "library": {"api", "app", "ui"},  # the routes, the files made here, and their cards
    "lora": {"training/adapters", "training/methods"},
    "pictures": {"ports", "host/headless", "host/webui"},
    "processes": {"ports", "host/headless"},
    "presets": {"app", "config"},  # a person's own, and those that come with Finetune
    "queue": {"api", "jobs", "ui"},
    "results": {"api", "app"},
    "settings": {"api", "config"},
    "status": {"jobs", "ui"},
    "storage": {"api", "app"},
    "validation": {"config", "evaluation"},  # of settings, and of the loss on held-out images
    "watch": {"evaluation", "host/webui"},  # on side effects in images, and on the WebUI's weights
}


def definitions(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Names of classes and functions, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno


def values(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Names that a value is given, with their lines: variables, arguments, fields, attributes, and what an import or an error is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.alias | ast.ExceptHandler | ast.MatchAs | ast.MatchStar | ast.MatchMapping):
            name = node.asname if isinstance(node, ast.alias) else getattr(node, "rest", None) or getattr(node, "name", None)
            if name:
                yield name, node.lineno


def words_of(name: str) -> set[str]:
    """The words of a name, in snake case or camel case."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)}


def is_old(name: str) -> bool:
    return bool(words_of(name) & OLD_WORDS) or name.strip("_") in OLD_NAMES


def is_participle(name: str) -> bool:
    return name.strip("_") in PARTICIPLES  # a constant of that name says the word itself: `KEPT = "kept"`


def faults(source: str) -> list[str]:
    """Each name of a file that is not to be, with its line."""
    tree = ast.parse(source)
    old = [(name, line) for name, line in (*definitions(tree), *values(tree)) if is_old(name)]
    participles = [(name, line) for name, line in values(tree) if is_participle(name)]
    return [f"{name} ({line})" for name, line in sorted({*old, *participles}, key=lambda each: each[1])]


@pytest.mark.parametrize("code", [
    "class Desk: pass", "class _Album: pass", "class Points: pass", "class _Way: pass", "class NullNobody: pass", "class ModelExchange: pass",
    "def sparing(): pass", "def _wait_patiently(): pass", "def standing_in(): pass", "async def verdict(): pass", "errand = 1", "def f(sheet): pass",
    "told = 1", "def f(given): pass", "lambda said: 1", "for found in (): pass", "with open('') as kept: pass", "if made := 1: pass",
    "self._wanted = 1", "[1 for one in ()]", "def f(*told): pass", "def f(*, found=1): pass", "import a as found", "class A:\n    kept: int = 1",
    "try:\n    pass\nexcept OSError as told:\n    pass", "match 1:\n    case found: pass", "a, (b, one) = 1, (2, 3)", "found += 1",
])  # fmt: skip
def test_a_name_that_is_not_to_be_is_seen(code: str) -> None:
    assert len(faults(code)) == 1


@pytest.mark.parametrize("code", [
    "class CheckpointInfo: pass", "def checkpointing(): pass", "one_hot = 1", "found_place = 1", "def kept_states(): pass", "spreadsheet = 1",
    "transformed = 1", "pathway = 1", "point = (1, 2)", "KEPT = 1", "x = told", "print('found')", "texts_kept = 1",
])  # fmt: skip
def test_other_names_are_left_alone(code: str) -> None:
    assert faults(code) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_names_are_the_fields_own_and_say_what_a_value_is(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8")) == []


def test_modules_and_folders_have_none_of_the_old_names() -> None:
    names = {part for path in FILES for part in path.relative_to(PACKAGE).with_suffix("").parts}
    assert len(names) > 150 and sorted(name for name in names if is_old(name) or is_participle(name)) == []


def test_no_class_name_occurs_twice() -> None:
    places = defaultdict(list)
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(path.relative_to(PACKAGE).as_posix())
    assert len(places) > 150 and {name: files for name, files in places.items() if len(files) > 1} == {}


def test_a_file_name_returns_only_where_its_folder_tells_it_apart() -> None:
    folders = defaultdict(set)
    for path in FILES:
        if not path.stem.startswith("__"):
            folders[path.stem].add("" if path.parent == PACKAGE else path.parent.relative_to(PACKAGE).as_posix())
    assert {name: where for name, where in folders.items() if len(where) > 1} == SHARED_FILE_NAMES


MOST_METHODS = 15


def methods_of(node: ast.ClassDef) -> int:
    return sum(isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) for child in node.body)


def test_a_class_of_more_than_fifteen_methods_gives_its_reason() -> None:
    classes = [
        (path, node) for path in FILES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ClassDef)
    ]
    large = {f"{path.relative_to(PACKAGE).as_posix()}: {node.name}": node for path, node in classes if methods_of(node) > MOST_METHODS}
    assert [name for name, node in large.items() if "more than fifteen methods because" not in (ast.get_docstring(node) or "")] == []
