"""What the package's modules import from one another, deferred imports and those for types counted."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "lib_finetune"


def imports_of(path: Path, module: str) -> set[str]:
    """Full names that a file imports, wherever in it; a name taken from a module counts as that module's possible submodule too."""
    parent = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = (
                ".".join([*parent[: len(parent) - node.level + 1], *([node.module] if node.module else [])]) if node.level else node.module
            )
            names |= {f"{base}.{alias.name}" for alias in node.names} | {base}
    return names


def import_graph(root: Path, package: str) -> dict[str, set[str]]:
    """Module → modules of the same package that it imports."""
    modules = {}
    for path in (root / package).rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return {module: (imports_of(path, module) & modules.keys()) - {module} for module, path in modules.items()}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules each of which comes back to itself by way of the others."""
    reached = {}
    for start in graph:
        seen: set[str] = set()
        waiting = list(graph[start])
        while waiting:
            module = waiting.pop()
            if module not in seen:
                seen.add(module)
                waiting += graph[module]
        reached[start] = seen
    return sorted({tuple(sorted(other for other in reached[module] if module in reached[other])) for module in graph} - {()})


def test_a_circle_is_found_through_deferred_imports_and_imports_for_types(tmp_path: Path) -> None:
    package = tmp_path / "sample"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("def f():\n    from sample import b\n")
    (package / "b.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .c import C\n")
    (package / "c.py").write_text("import sample.a\n")
    (package / "d.py").write_text("import sample.a\n")
    assert circles(import_graph(tmp_path, "sample")) == [("sample.a", "sample.b", "sample.c")]


def test_no_module_of_the_package_imports_itself_by_way_of_others() -> None:
    assert circles(import_graph(ROOT, "lib_finetune")) == []


def test_nothing_that_is_installed_or_run_in_the_webui_imports_the_bench() -> None:
    files = [*PACKAGE.rglob("*.py"), *(ROOT / "scripts").glob("*.py"), ROOT / "install.py", ROOT / "quickstart.py"]
    importers = [
        str(path.relative_to(ROOT)) for path in files if any(name.split(".")[0] == "bench" for name in imports_of(path, path.stem))
    ]
    assert len(files) > 100
    assert importers == []
