"""Who reads the settings tree: docs/architecture.md, "Who reads the settings"."""

from __future__ import annotations

import ast
import dataclasses
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

from lib_finetune.config.settings import Settings
from lib_finetune.jobs.queue import Jobs
from tests.fakes.runs import Bench, settings
from tests.test_imports import PACKAGE, imports_of

#: They take plain values, which `assembly` unpacks.
IGNORANT = ("training", "host", "data", "model", "text", "export", "evaluation", "ports")
#: They carry the settings whole, and read these fields.
CARRIERS = ("runs/runner.py", "runs/folder.py", "runs/continuation.py", "runs/session.py")
CARRIED = {"name", "method"}
FIELDS = {field.name for field in dataclasses.fields(Settings)}


def files_of(room: str) -> list[Path]:
    return sorted((PACKAGE / room).rglob("*.py"))


def is_carrier(path: Path) -> bool:
    relative = path.relative_to(PACKAGE).as_posix()
    return relative.startswith("jobs/") or relative in CARRIERS


def config_modules(path: Path) -> set[str]:
    """Full names of `config` that a file imports, those for types counted."""
    module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    return {name for name in imports_of(path, module) if name.startswith("lib_finetune.config.")}


@pytest.mark.parametrize("room", IGNORANT)
def test_a_room_of_plain_values_knows_nothing_of_settings(room: str) -> None:
    assert files_of(room)
    assert {path: names for path in files_of(room) if (names := config_modules(path))} == {}


def test_of_the_modules_of_a_run_those_that_carry_the_settings_know_them_and_no_other() -> None:
    others = [path for path in files_of("runs") if not is_carrier(path)]
    assert len(others) > 8 and {path.name: names for path in others if (names := config_modules(path))} == {}


def settings_names(tree: ast.AST) -> set[str]:
    """Names of values of a file that are settings by their type hints or by what they are called."""
    names = {"settings"}
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.annotation is not None and "Settings" in ast.unparse(node.annotation).split(" | "):
            names.add(node.arg)
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Call)
            and ast.unparse(node.value.func).endswith((".settings", "replaced"))
        ):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def fields_read(source: str) -> set[str]:
    """Fields of settings that a file reads as attributes."""
    tree = ast.parse(source)
    names = settings_names(tree)
    fields = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and node.attr in FIELDS:
            owner = node.value
            if (isinstance(owner, ast.Name) and owner.id in names) or (
                isinstance(owner, ast.Attribute) and owner.attr.endswith("settings")
            ):
                fields.add(node.attr)
    return fields


def test_a_field_that_a_carrier_reads_is_seen() -> None:
    code = (
        "def f(chosen: Settings, job):\n    new = replaced(chosen, 'a', 1)\n"
        "    return chosen.data.images, job.settings.tuning, new.saving, chosen.name, plan.preview"
    )
    assert fields_read(code) == {"data", "tuning", "saving", "name"}


def test_carriers_read_name_and_method_and_leave_the_walk_over_fields_to_others() -> None:
    carriers = [path for path in [*files_of("runs"), *files_of("jobs")] if is_carrier(path)]
    assert len(carriers) > 10
    assert {path.name: fields for path in carriers if (fields := fields_read(path.read_text(encoding="utf-8")) - CARRIED)} == {}
    assert [path.name for path in carriers if "lib_finetune.config.fields.value_at" in config_modules(path)] == []


def readers(frame: object) -> str:
    """The first module outside of `config` and the standard library that a look at a field comes from; "" for one that copies or writes the tree."""
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if frame.f_code.co_name in ("replaced", "replace", "to_json", "to_dict", "asdict", "__init__", "__eq__", "__repr__"):
            return ""
        if module.startswith("lib_finetune.") and not module.startswith("lib_finetune.config."):
            return module
        frame = frame.f_back
    return ""


@pytest.mark.parametrize("changes", [
    {"preview.enabled": "true", "preview.every": "2", "preview.steps": "1", "saving.every_steps": "2"},
    {"method": "dreambooth", "data.trigger": "sks", "objective.prior": "pictures", "data.class_count": "2"},
])  # fmt: skip
def test_during_a_job_queue_and_run_read_name_and_method_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]
) -> None:
    bench, seen = Bench(tmp_path), defaultdict(set)
    chosen = settings(bench.images, changes)
    plain = Settings.__getattribute__

    def watched(self: Settings, name: str) -> object:
        if name in FIELDS and (module := readers(sys._getframe(1))):
            seen[module].add(name)
        return plain(self, name)

    jobs = Jobs(bench.host())
    monkeypatch.setattr(Settings, "__getattribute__", watched)
    job = jobs.submit(chosen)
    while not job.ended:
        time.sleep(0.02)
    monkeypatch.undo()
    assert job.state == "done" and "lib_finetune.assembly.builder" in seen
    own = {module: fields for module, fields in seen.items() if module.startswith(("lib_finetune.jobs.", "lib_finetune.runs."))}
    assert "lib_finetune.jobs.queue" in own and {module: fields - CARRIED for module, fields in own.items() if fields - CARRIED} == {}
    assert not [module for module in seen if module.split(".")[1] in IGNORANT]
