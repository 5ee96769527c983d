"""Every test has one tier, by the rule of tests/conftest.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import conftest

ROOT = Path(__file__).resolve().parents[1]
#: Collects files as pytest does and prints for each of them which marks its tests have.
COLLECT = """
import json, sys, pytest
found = {}
class Plugin:
    def pytest_collection_finish(self, session):
        for item in session.items:
            found.setdefault(item.path.relative_to(item.config.rootpath).as_posix(), []).append(sorted({mark.name for mark in item.iter_markers()}))
pytest.main(["--collect-only", "-q", "-n", "0", "-p", "no:cacheprovider", *sys.argv[1:]], plugins=[Plugin()])
print("\\n" + json.dumps(found))
"""
#: File → the tier of its tests, and why.
EXPECTED = {
    "tests/data/test_order.py": "unit",  # a folder that the rule does not name
    "tests/export/test_lora_file.py": "integration",  # uses whole runs
    "tests/bench/page/test_driver.py": "browser",  # marked
    "tests/bench/webui/test_driver.py": "",  # asked for
}


def marks(*arguments: str) -> dict[str, list[list[str]]]:
    """File → the marks of each test that this command line picks."""
    done = subprocess.run([sys.executable, "-c", COLLECT, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("name", conftest.INTEGRATION)
def test_a_place_of_the_rule_exists(name: str) -> None:
    assert (ROOT / "tests" / name).exists()


def test_each_test_has_the_tier_of_the_rule() -> None:
    found = marks(*EXPECTED, "-m", "")
    for file, tier in EXPECTED.items():
        tests = found[file]
        assert tests and all([name for name in conftest.TIERS if name in names] == [tier] * bool(tier) for names in tests), file


def test_a_tier_is_picked_by_its_name() -> None:
    unit, browser, asked_for = "tests/data/test_order.py", "tests/bench/page/test_driver.py", "tests/bench/webui/test_driver.py"
    files = [unit, browser, asked_for]
    assert set(marks(*files, "-m", "unit")) == {unit}
    assert set(marks(*files, "-m", "browser")) == {browser}
    assert set(marks(*files)) == {unit, browser}  # what is asked for is left out
