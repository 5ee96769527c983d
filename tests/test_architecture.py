"""docs/architecture.md is true: its table against the folders and import-linter's layers, and the files that documents name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lib_finetune.config import codec

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "lib_finetune"
DOCUMENTS = ("docs/architecture.md", "docs/host.md", "CONTRIBUTING.md", "examples/README.md", "tests/golden/README.md")
ROW = re.compile(r"^\| (?P<row>\d+|apart) \| (?P<rooms>[^|]+) \|", re.MULTILINE)
#: A path in backquotes that ends in a known way; what has a gap or a wildcard in it is no path.
PATH = re.compile(r"`(?P<path>[\w./-]+\.(?:py|md|toml|json|yml|yaml|js|css))`")


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def table() -> dict[str, set[str]]:
    """Row → its rooms, without "/" and ".py"."""
    rooms = {found["row"]: re.findall(r"`([\w.]+)/?`", found["rooms"]) for found in ROW.finditer(text_of("docs/architecture.md"))}
    return {row: {name.removesuffix(".py") for name in names} for row, names in rooms.items()}


def contract() -> dict[str, object]:
    """import-linter's first contract."""
    try:
        import tomllib as toml
    except ModuleNotFoundError:  # Python 3.10
        import toml
    return dict(toml.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"][0])


def test_each_folder_and_file_of_the_package_is_a_room_of_the_table() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    files = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    named = [room for rooms in table().values() for room in rooms]
    assert sorted(named) == sorted(folders | files)


def test_folders_are_written_as_folders() -> None:
    rooms = [name for found in ROW.finditer(text_of("docs/architecture.md")) for name in re.findall(r"`([^`]+)`", found["rooms"])]
    assert [name for name in rooms if not (PACKAGE / name).exists()] == []
    assert [name for name in rooms if name.endswith("/") != (PACKAGE / name).is_dir()] == []


def test_the_rows_are_the_layers_that_import_linter_holds() -> None:
    rows = table()
    apart = rows.pop("apart")
    layers = [set(re.findall(r"\w+", layer)) for layer in contract()["layers"]]
    assert list(rows) == [str(number) for number in range(1, len(layers) + 1)]
    assert list(rows.values()) == layers
    assert apart == set(contract()["exhaustive_ignores"]) and contract()["exhaustive"] is True


def is_there(path: str) -> bool:
    """Below the project, or, as rooms are written, below the package."""
    return (ROOT / path).exists() or (PACKAGE / path).exists()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_file_that_a_document_names_exists(document: str) -> None:
    here = (ROOT / document).parent
    named = [found["path"] for found in PATH.finditer(text_of(document)) if found["path"] not in NOT_OURS]
    assert [path for path in named if not is_there(path) and not (here / path).exists()] == []


#: Files of the WebUI, of a run, or made up for an example.
NOT_OURS = {
    "webui.py", "config.json", "ui-config.json", "v1-inference.yaml", "requirements.txt", "networks/lora.py", "name.json",
    "lib_finetune/training/optim/sgd.py", "training/optim/sgd.py", "training/adapters/ia3.py", "lib_finetune/training/adapters/ia3.py",
    "ui/notes.py", "api/notes.py", "app/notes.py", "tests/api/test_notes.py", "tests/app/test_notes.py", "tests/ui/test_notes.py",
    "tests/estimates/test_notes.py", "metadata.ini",
}  # fmt: skip


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_setting_that_a_document_names_exists(document: str) -> None:
    sections = {path.partition(".")[0] for path in codec.all_leaves() if "." in path}
    named = re.findall(rf"`((?:{'|'.join(sorted(sections))})\.[a-z_]+)`", text_of(document))
    assert [path for path in named if path not in codec.all_leaves() and not path.endswith(".py")] == []


#: A command that a document tells to type: a tool of the bench, a command of the package, or a module.
COMMAND = re.compile(r"python -m (?P<module>(?:bench|lib_finetune|tests)(?:\.\w+)*)(?: +(?P<command>[a-z]+))?")


def moved() -> list[tuple[str, str]]:
    """Each row of docs/moves.md: what is old, and what is new."""
    rows = [line.strip("|").split(" | ") for line in text_of("docs/moves.md").splitlines() if line.startswith("| `")]
    return [(old.strip(), new.strip()) for old, new in rows]


def written(document: str) -> str:
    """The text of a document in which all commands are meant to be typed: of the table of moves, the right column."""
    return "\n".join(new for _, new in moved()) if document == "docs/moves.md" else text_of(document)


@pytest.mark.parametrize(
    "document", ["README.md", "CONTRIBUTING.md", *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md"))]
)
def test_a_command_that_a_document_names_exists(document: str) -> None:
    from bench.__main__ import TOOLS

    known = {"bench": set(TOOLS), "lib_finetune": {"train", "generate", "describe", "ui", "doctor"}}
    for found in COMMAND.finditer(written(document)):
        module = found["module"]
        if module in known:
            assert found["command"] is None or found["command"] in known[module], found[0]
        else:
            assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), found[0]


def test_documents_name_commands() -> None:
    assert {found["command"] for found in COMMAND.finditer(written("README.md"))} >= {"nano", "train", "ui"}
    assert {found["module"] for found in COMMAND.finditer(written("docs/moves.md"))} >= {"bench", "bench.webui.driver"}


def test_where_a_file_went_there_is_one_and_where_it_was_there_is_none() -> None:
    paths = re.compile(r"`([\w.-]+/[\w./-]*)`")
    rows = moved()
    assert len(rows) > 150
    assert [path for _, new in rows for path in paths.findall(new) if not (ROOT / path).exists()] == []
    came_back = {"lib_finetune/__main__.py"}  # stayed, and gave something away
    old = {path for old, _ in rows for path in paths.findall(old)} - came_back
    assert sorted(path for path in old if (ROOT / path).is_file()) == []
