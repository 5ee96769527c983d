"""The checks before a commit and in continuous integration are those that the tests run."""

from __future__ import annotations

import ast
import shlex
from pathlib import Path
from typing import Any

import pytest

from lib_finetune.installation import requirements
from tests import conftest

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).resolve().parents[1]


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def commands_of_the_tests() -> list[list[str]]:
    """The arguments of python in each ``run_tool(...)`` of test_manners.py."""
    tree = ast.parse((ROOT / "tests" / "test_manners.py").read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "run_tool"]
    return [[ast.literal_eval(argument) for argument in call.args[1:]] for call in calls]


def test_hooks_run_what_the_tests_run() -> None:
    hooks = [hook for repo in read(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    entries = [shlex.split(hook["entry"]) for hook in hooks]
    assert sorted(entry[1:] for entry in entries) == sorted(commands_of_the_tests())
    assert {entry[0] for entry in entries} == {"python"} and not any(hook["pass_filenames"] for hook in hooks)


def test_continuous_integration_runs_tiers_that_exist_on_pythons_that_are_supported() -> None:
    jobs = read(".github/workflows/ci.yml")["jobs"]
    assert jobs["linux"]["strategy"]["matrix"]["python"] == ["3.10", "3.11", "3.13"]
    commands = {name: shlex.split(job["steps"][-1]["run"]) for name, job in jobs.items()}
    assert commands["linux"] == ["python", "quickstart.py", "test", "-m", "unit or integration"]
    assert commands["windows"] == ["python", "quickstart.py", "test", "-m", "unit"]
    assert {"unit", "integration"} < set(conftest.TIERS)
    versions = [*jobs["linux"]["strategy"]["matrix"]["python"], jobs["windows"]["steps"][1]["with"]["python-version"]]
    assert {tuple(map(int, version.split("."))) for version in versions} <= set(requirements.SET_OF_PYTHON)


def test_a_report_asks_for_version_gpu_flags_and_log() -> None:
    for name in ("bug", "result"):
        fields = {field["id"]: field for field in read(f".github/ISSUE_TEMPLATE/{name}.yml")["body"]}
        for needed in ("version", "gpu", "flags", "log"):
            assert fields[needed]["validations"]["required"] is True, (name, needed)
