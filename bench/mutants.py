"""Mutants: small faults put into `lib_finetune` one at a time, to see whether the tests notice.

    python -m bench mutants try --count 80 --seed 1
    python -m bench mutants map [TESTS ...]     # takes an hour, and may be left out: which functions each test file runs
    python -m bench mutants show

``try`` draws a random sample of all places where one of the five changes of `KINDS` is possible, each place as likely as any other. It puts
each change into a scratch copy of the project and runs the tests that cover the place, until one fails: the file that mirrors the module
(``tests/data/test_cache.py`` for ``lib_finetune/data/cache.py``), then the files that ``map`` saw run the function, those that run the fewest functions
first. Where there is no map, the ``--files`` files that are closest to the module by their imports are run instead.
A test that fails without any change is left out and named. Results lie in ``--out``; a run that was stopped carries on from there,
and what was not caught is tried again when other tests cover it.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "lib_finetune"
KINDS = ("comparison flipped", "number changed", "call dropped", "branch cut", "return emptied")
CAUGHT, SURVIVED, OUT_OF_TIME, NO_TESTS = "caught", "survived", "out of time", "no tests"
_FLIPPED = {
    ast.Lt: ">=", ast.LtE: ">", ast.Gt: "<=", ast.GtE: "<", ast.Eq: "!=", ast.NotEq: "==",
    ast.Is: "is not", ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
}  # fmt: skip
#: A dropped log line changes nothing that a test should hold.
_LOGGERS = ("_log", "logging", "logger")
_LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", "__pycache__", ".*_cache", "mutants-output", "*-output", "screenshots")


@dataclass(frozen=True)
class Mutant:
    """One change of one place.

    Attributes:
        file: relative to the project, with "/".
        line, column, end_line, end_column: the text that is replaced; columns in bytes, as `ast` counts.
        kind: of `KINDS`.
        before, after: the text.
        function: first line of the function that holds the place, as the interpreter counts; 0 at the top level of the module.
    """

    file: str
    line: int
    column: int
    end_line: int
    end_column: int
    kind: str
    before: str
    after: str
    function: int

    @property
    def name(self) -> str:
        """The same in each run as long as the file does not change."""
        return f"{self.file}:{self.line}:{self.column} {self.kind}"

    def applied(self, source: str) -> str:
        """The module's text with the change."""
        lines = source.encode("utf-8").splitlines(keepends=True)
        head = b"".join(lines[: self.line - 1]) + lines[self.line - 1][: self.column]
        tail = lines[self.end_line - 1][self.end_column :] + b"".join(lines[self.end_line :])
        return (head + self.after.encode("utf-8") + tail).decode("utf-8")


# -- places ------------------------------------------------------------------------------------------------------------


def mutants_of(source: str, file: str) -> list[Mutant]:
    """Every possible change of a module, in the order of its text."""
    lines = source.encode("utf-8").splitlines(keepends=True)
    return sorted(_walk(ast.parse(source), lines, file, 0), key=lambda mutant: (mutant.line, mutant.column, mutant.kind))


def all_mutants(root: Path = ROOT) -> list[Mutant]:
    """Every possible change of the package."""
    files = sorted((root / PACKAGE).rglob("*.py"))
    return [mutant for path in files for mutant in mutants_of(path.read_text(encoding="utf-8"), path.relative_to(root).as_posix())]


def sample(mutants: Sequence[Mutant], count: int, seed: int) -> list[Mutant]:
    """So many of them, the same for the same seed."""
    return random.Random(seed).sample(list(mutants), min(count, len(mutants)))


def _walk(node: ast.AST, lines: Sequence[bytes], file: str, function: int) -> Iterator[Mutant]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        function = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return
    if isinstance(node, ast.JoinedStr):  # before Python 3.12 the places inside are not those of the file
        return
    change = _change(node)
    if change:
        kind, target, after = change
        end_line, end_column = target.end_lineno or target.lineno, target.end_col_offset or 0
        before = _between(lines, target.lineno, target.col_offset, end_line, end_column)
        yield Mutant(file, target.lineno, target.col_offset, end_line, end_column, kind, before, after, function)
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns"):  # types are for mypy
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _walk(child, lines, file, function)


def _between(lines: Sequence[bytes], line: int, column: int, end_line: int, end_column: int) -> str:
    """The text between two places; columns in bytes."""
    text = b"".join(lines[line - 1 : end_line])
    return text[column : len(text) - len(lines[end_line - 1]) + end_column].decode("utf-8")


def _change(node: ast.AST) -> tuple[str, ast.expr | ast.stmt, str] | None:
    """(kind, what is replaced, by what), or None where nothing is changed."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        sides = ast.unparse(node.left), ast.unparse(node.comparators[0])
        return KINDS[0], node, f"({sides[0]} {_FLIPPED[type(node.ops[0])]} {sides[1]})"
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return KINDS[1], node, repr(node.value + 1 if isinstance(node.value, int) else node.value * 2 or 1.0)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and not ast.unparse(node.value.func).startswith(_LOGGERS):
        return KINDS[2], node, "pass"
    if isinstance(node, ast.If):
        return KINDS[3], node.test, "False"
    if isinstance(node, ast.Return) and node.value is not None and not (isinstance(node.value, ast.Constant) and node.value.value is None):
        return KINDS[4], node.value, "None"
    return None


# -- which tests cover a place -----------------------------------------------------------------------------------------

#: Run inside pytest: notes each function of the package that a test file's tests call, in any thread.
_RECORDER = """
import json, sys, threading
import pytest
package, out, arguments = sys.argv[1], sys.argv[2], sys.argv[3:]
seen = set()
def note(frame, event, _argument):
    if event == "call" and package in frame.f_code.co_filename:
        seen.add((frame.f_code.co_filename, frame.f_code.co_firstlineno))
class Recorder:
    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self):
        threading.setprofile(note); sys.setprofile(note)
        try:
            return (yield)
        finally:
            sys.setprofile(None); threading.setprofile(None)
code = pytest.main(arguments, plugins=[Recorder()])
json.dump(sorted(seen), open(out, "w", encoding="utf-8"))
sys.exit(code)
"""


def functions_run_by(test: str, root: Path, python: str) -> list[str]:
    """``file:line`` of each function of the package that the tests of a file run."""
    package = str(root / PACKAGE) + os.sep
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "seen.json"
        command = [python, "-c", _RECORDER, package, str(out), "-q", "-n", "0", "-p", "no:cacheprovider", "-m", _RUN_BY_DEFAULT, test]
        subprocess.run(command, cwd=root, env=_environ(), stdout=subprocess.DEVNULL, check=False)
        seen = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else []
    return [f"{Path(file).relative_to(root).as_posix()}:{line}" for file, line in seen]


def mirror_of(file: str) -> str:
    """The test file of a module, whether it exists or not."""
    path = Path(file).relative_to(PACKAGE)
    return (Path("tests") / path.parent / f"test_{path.name}").as_posix()


def covering_tests(mutant: Mutant, coverage: Mapping[str, Sequence[str]], root: Path) -> list[str]:
    """The test files that a map says cover a place, the likeliest first.

    Args:
        coverage: test file → the functions that it runs.
    """
    place = f"{mutant.file}:{mutant.function}"
    if mutant.function:
        named = [test for test, functions in coverage.items() if place in functions]
    else:  # what is done at import shows in whatever uses the module
        named = [test for test, functions in coverage.items() if any(name.startswith(f"{mutant.file}:") for name in functions)]
    mirror = mirror_of(mutant.file)
    ordered = [mirror, *sorted((test for test in named if test != mirror), key=lambda test: (len(coverage[test]), test))]
    return [test for test in ordered if (root / test).is_file()]


def close_tests(mutant: Mutant, distances: Mapping[str, Mapping[str, int]], root: Path, count: int) -> list[str]:
    """So many test files that are close to a place: the mirror, then those with the fewest imports between them and the module.

    A file outside the module's room counts one import more. Among equals, the files that name the function come first, then the short ones.

    Args:
        distances: of `import_distances`.
    """
    source = (root / mutant.file).read_text(encoding="utf-8").splitlines()
    function = re.search(r"\bdef (\w+)", " ".join(source[mutant.function - 1 :])) if mutant.function else None
    room = mirror_of(mutant.file).rsplit("/", 1)[0]

    def key(test: str) -> tuple[int, bool, int]:
        text = (root / test).read_text(encoding="utf-8")
        names_it = function is not None and re.search(rf"\b{function[1]}\b", text) is not None
        return distances[test][mutant.file] + (not test.startswith(f"{room}/")), not names_it, len(text)

    mirror = mirror_of(mutant.file)
    others = sorted((test for test, steps in distances.items() if test != mirror and mutant.file in steps), key=key)
    return [*([mirror] if mirror in distances else []), *others][:count]


def import_distances(root: Path) -> dict[str, dict[str, int]]:
    """Test file → module of the package → the number of imports from the one to the other, 1 for a direct import."""
    files = [path for folder in (PACKAGE, "tests") for path in sorted((root / folder).rglob("*.py"))]
    modules = {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in files}
    imports = {path: _imports(path, modules) for path in files}
    return {
        test.relative_to(root).as_posix(): {path.relative_to(root).as_posix(): count for path, count in _steps_from(test, imports).items()}
        for test in files
        if test.name.startswith("test_")
    }


def _imports(path: Path, modules: Mapping[str, Path]) -> set[Path]:
    """The files of the project that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= inner & modules.keys() or {node.module}
    return {modules[name] for name in names & modules.keys()} - {path}


def _steps_from(start: Path, imports: Mapping[Path, set[Path]]) -> dict[Path, int]:
    """File → the number of imports to it; the start itself is left out."""
    steps = {start: 0}
    row = [start]
    while row:
        row = [file for near in row for file in imports[near] if steps.setdefault(file, steps[near] + 1) > steps[near]]
        row = list(dict.fromkeys(row))
    del steps[start]
    return steps


# -- trying ------------------------------------------------------------------------------------------------------------

_RUN_BY_DEFAULT = "not environment and not webui and not browser"


@dataclass(frozen=True)
class Outcome:
    """What came of a mutant."""

    result: str
    tests: list[str]
    seconds: float
    failure: str = ""


class Sampler:
    """Tries mutants in a scratch copy and keeps what came of them in a file."""

    def __init__(self, root: Path, out: Path, python: str, limit_s: float, files: int = 8) -> None:
        """
        Args:
            out: folder of ``coverage.json`` and ``results.json``.
            limit_s: for the tests of one mutant together.
            files: how many test files are tried for a mutant where there is no map.
        """
        self._root, self._out, self._python, self._limit_s, self._files = root, out, python, limit_s, files
        self.coverage: dict[str, list[str]] = _read(out / "coverage.json")
        self.results: dict[str, Any] = _read(out / "results.json")
        self._distances: dict[str, dict[str, int]] = {}
        self._green: dict[str, bool] = {}

    def map(self, tests: Sequence[str]) -> None:
        """Note which functions these test files run."""
        for number, test in enumerate(tests, start=1):
            start = time.monotonic()
            self.coverage[test] = functions_run_by(test, self._root, self._python)
            _write(self._out / "coverage.json", self.coverage)
            print(f"{number}/{len(tests)} {test}: {len(self.coverage[test])} functions, {time.monotonic() - start:.0f} s", flush=True)

    def run(self, mutants: Sequence[Mutant]) -> None:
        """Try those that have no result yet, and print a line for each."""
        with tempfile.TemporaryDirectory(prefix="finetune-mutants-") as scratch:
            copy = Path(scratch) / "project"
            shutil.copytree(self._root, copy, ignore=_LEFT_OUT, symlinks=True)
            for number, mutant in enumerate(mutants, start=1):
                digest = hashlib.sha256((self._root / mutant.file).read_bytes()).hexdigest()[:16]
                covering = self._covering(mutant, copy)
                stored = self.results.get(mutant.name)
                if stored is None or not _still_holds(stored, digest, covering):
                    stored = {**asdict(mutant), "source": digest, "covering": covering, **asdict(self._tried(mutant, covering, copy))}
                    self.results[mutant.name] = stored
                    _write(self._out / "results.json", self.results)
                print(f"{number}/{len(mutants)} {line_of(stored)}", flush=True)

    def _covering(self, mutant: Mutant, copy: Path) -> list[str]:
        if self.coverage:
            return covering_tests(mutant, self.coverage, copy)
        if not self._distances:
            self._distances = import_distances(copy)
        return close_tests(mutant, self._distances, copy, self._files)

    def _tried(self, mutant: Mutant, covering: Sequence[str], copy: Path) -> Outcome:
        path = copy / mutant.file
        source = path.read_text(encoding="utf-8")
        start = time.monotonic()
        while True:
            tests = [test for test in covering if self._green.get(test, True)]
            if not tests:
                return Outcome(NO_TESTS, [], 0.0)
            try:
                path.write_text(mutant.applied(source), encoding="utf-8")
                code, output = self._pytest(tests, copy, self._limit_s)
            finally:
                path.write_text(source, encoding="utf-8")
            failed = next((line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))), "")
            if not failed or self._is_green(failed, copy):
                break
        result = _RESULTS.get(code, CAUGHT)
        return Outcome(result, tests, round(time.monotonic() - start, 1), failed[:200] if result == CAUGHT else "")

    def _is_green(self, failed: str, copy: Path) -> bool:
        """Whether what failed passes without the change; looked at once.

        Args:
            failed: pytest's line, "FAILED tests/x.py::test_a[1] - AssertionError", or of a whole file that was not read.
        """
        test = re.split(r"[ \[]", failed)[1]
        if test not in self._green:
            code, _ = self._pytest([test], copy, max(self._limit_s, _CLEAN_LIMIT_S))
            self._green[test] = code == 0
            if code != 0:
                print(f"{test} does not pass without a change, and is left out.", flush=True)
        return self._green[test]

    def _pytest(self, tests: Sequence[str], copy: Path, limit_s: float) -> tuple[int | None, str]:
        """(exit code, output) of these files up to the first failure; None when the time is over."""
        # No bytecode: a file that changes twice within a second would be taken for the same.
        command = [self._python, "-B", "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", "-m", _RUN_BY_DEFAULT, *tests]
        command += [f"--deselect={test}" for test, green in self._green.items() if not green]
        with subprocess.Popen(
            command, cwd=copy, env=_environ(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        ) as child:
            try:
                output, _ = child.communicate(timeout=limit_s)
            except subprocess.TimeoutExpired:
                _end(child)
                return None, ""
        return child.returncode, output


#: pytest's exit code, None when the time is over → what came of the mutant; all other codes are a failure.
_RESULTS = {0: SURVIVED, 5: NO_TESTS, None: OUT_OF_TIME}
_CLEAN_LIMIT_S = 900.0


def _still_holds(stored: Mapping[str, Any], digest: str, covering: Sequence[str]) -> bool:
    """Whether a result is worth keeping: the module is the same, and the tests caught it or no other ones have come."""
    return stored["source"] == digest and (stored["result"] == CAUGHT or stored["covering"] == list(covering))


def _end(child: subprocess.Popen[str]) -> None:
    """End a program and all that it has started."""
    if os.name == "nt":
        child.kill()
    else:
        os.killpg(child.pid, signal.SIGKILL)
    child.communicate()


def _environ() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1), encoding="utf-8")
    part.replace(path)


# -- telling -----------------------------------------------------------------------------------------------------------


def line_of(result: Mapping[str, Any]) -> str:
    """One result in one line."""
    before = " ".join(str(result["before"]).split())[:60]
    change = f"{before} -> {result['after'][:60]}"
    line = f"{result['result']:11} {result['file']}:{result['line']}  {result['kind']}: {change}  ({result['seconds']:.0f} s)"
    return line + (f"  {result['failure']}" if result["failure"] else "")


def summary(results: Sequence[Mapping[str, Any]]) -> str:
    """How many were caught, of those whose tests came to an end."""
    counts = {result: sum(tried["result"] == result for tried in results) for result in (CAUGHT, SURVIVED, OUT_OF_TIME, NO_TESTS)}
    share = 100 * counts[CAUGHT] / len(results) if results else 0.0
    return ", ".join(f"{count} {result}" for result, count in counts.items()) + f": {share:.0f} % of {len(results)} caught"


def main(arguments: Sequence[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench mutants", description="Put small faults into the package and see whether tests notice."
    )
    parser.add_argument("action", choices=("map", "try", "show"))
    parser.add_argument("tests", nargs="*", help="map: test files or folders (all of tests/)")
    parser.add_argument("--count", type=int, default=80)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[], metavar="PATH", help="try: places in these files or folders of the package")
    parser.add_argument("--limit", type=float, default=600.0, metavar="SECONDS", help="for the tests of one mutant")
    parser.add_argument("--files", type=int, default=8, metavar="COUNT", help="try without a map: test files for one mutant")
    parser.add_argument("--python", default=sys.executable, help="that runs the tests")
    parser.add_argument("--out", type=Path, default=ROOT / "mutants-output", metavar="DIR", help="coverage.json and results.json")
    options = parser.parse_intermixed_args(arguments)
    sampler = Sampler(ROOT, options.out, options.python, options.limit, options.files)
    if options.action == "map":
        sampler.map(_test_files(options.tests or ["tests"]))
        return 0
    places = [mutant for mutant in all_mutants() if not options.only or mutant.file.startswith(tuple(options.only))]
    chosen = sample(places, options.count, options.seed)
    if options.action == "try":
        if not sampler.coverage:
            print("There is no map: the test files that are closest to a module by their imports are run.", flush=True)
        sampler.run(chosen)
    results = [sampler.results[mutant.name] for mutant in chosen if mutant.name in sampler.results]
    if options.action == "show":
        print("\n".join(line_of(result) for result in results))
    print(summary(results))
    return 0


def _test_files(places: Sequence[str]) -> list[str]:
    found: list[Path] = []
    for place in places:
        path = ROOT / place
        found += sorted(path.rglob("test_*.py")) if path.is_dir() else [path]
    return [path.relative_to(ROOT).as_posix() for path in found]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
