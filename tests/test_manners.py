"""The rules of architecture.md and style.md that a machine can hold."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "lib_finetune"

#: Which part of the package may import what; all else may not.
ONLY_IN = {"modules": "host", "networks": "host", "gradio": "ui", "fastapi": "api"}

HEAVY = ("torch", "diffusers", "transformers", "peft", "lycoris", "numpy", "PIL", "gradio", "fastapi", "safetensors")


def run_tool(module: str, *command: str) -> None:
    """Run a tool of the development set in the project's folder; its output is the message of a failure."""
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed; `python quickstart.py test` brings it")
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_imports_follow_the_dependency_rule() -> None:
    run_tool("importlinter", "-c", "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))")


def test_ruff_finds_nothing() -> None:
    run_tool("ruff", "-m", "ruff", "check", "--no-cache", "--output-format=concise", ".")


def test_ruff_would_format_nothing() -> None:
    run_tool("ruff", "-m", "ruff", "format", "--no-cache", "--check", "--output-format=concise", ".")


def test_types_hold() -> None:
    run_tool("mypy", "-m", "mypy")


def external_imports(path: Path) -> Iterator[str]:
    """The top-level names that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_of_the_edge_stays_at_its_edge(library: str) -> None:
    elsewhere = [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] != ONLY_IN[library]]
    assert [str(path.relative_to(ROOT)) for path in elsewhere if library in external_imports(path)] == []


#: Parts that must not read the settings: they take plain values, which build.py unpacks.
IGNORANT_OF_SETTINGS = ("training", "host", "data", "model", "export", "evaluation", "text")


@pytest.mark.parametrize("part", IGNORANT_OF_SETTINGS)
def test_the_settings_tree_is_read_above_only(part: str) -> None:
    readers = [path for path in (PACKAGE / part).rglob("*.py") if "lib_finetune.config" in path.read_text(encoding="utf-8")]
    assert readers == []


def test_the_script_of_the_webui_is_short() -> None:
    for script in (ROOT / "scripts").glob("*.py"):
        assert len(script.read_text(encoding="utf-8").splitlines()) <= 45, script.name


@pytest.mark.parametrize(
    "module",
    [
        *("lib_finetune", "lib_finetune.installation.requirements", "lib_finetune.installation.environment", "install"),
        *("bench.__main__", "bench.webui.driver", "bench.webui.guarded", "bench.webui.localized", "bench.page.driver"),
    ],
)
def test_importing_brings_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


#: Files of our own state; everything else goes through lib_finetune/model/pickled.py.
LOADED_BY_TORCH = {"bench/nano/stage.py": ["path", "weights_only=True", "map_location='cpu'"]}
UNPICKLERS = ("pickle", "dill", "joblib", "cloudpickle", "shelve", "marshal", "_pickle")


def called(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Each call in a file: its dotted name, and its arguments as they are written."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), [ast.unparse(each) for each in (*node.args, *node.keywords)]


def test_only_files_of_our_own_state_are_loaded_by_torch() -> None:
    calls = [
        (path.relative_to(ROOT).as_posix(), *call)
        for top in (PACKAGE, ROOT / "bench")
        for path in top.rglob("*.py")
        for call in called(path)
    ]
    loads = {path: given for path, name, given in calls if name in ("torch.load", "torch.serialization.load")}
    assert loads == LOADED_BY_TORCH
    assert not [call for call in calls if "torch.jit" in call[1] or "torch.hub" in call[1] or "allow_pickle=True" in call[2]]


def test_nothing_else_unpickles() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert not set(external_imports(path)) & set(UNPICKLERS), path
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):  # torch's reader has no other name
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch":
                assert not {alias.name for alias in node.names} & {"load", "serialization", "jit"}, path
