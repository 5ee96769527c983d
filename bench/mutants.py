"""Mutants: small faults put into `lib_finetune` one at a time, to see whether the tests notice.

    python -m bench mutants try --count 80 --seed 1
    python -m bench mutants map --count 80 --seed 1     # may be left out: which tests run the functions of these places
    python -m bench mutants show

``try`` draws a random sample of all places where one of the five changes of `KINDS` is possible, each place as likely as any other. It puts
each change into a scratch copy of the project and runs the tests that cover the place, until one fails. Without a map, these are the
``--files`` test files that are closest to the module by their imports: first the file that mirrors it (``tests/data/test_cache.py`` for
``lib_finetune/data/cache.py``). ``map`` runs the whole suite once, as slowly as it always is, with a mark in each function of the sample; then
a mutant costs seconds, because ``try`` runs the ``--tests`` tests that came to the mark, those that came to the fewest marks first.
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
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
        function = _first_line(node)
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

#: A module of the scratch copy: notes for each mark which test came to it, in any thread and any program that the test starts.
_MARKS = """
import os
_seen = set()
def reached(place):
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rsplit(" (", 1)[0]
    if test and (place, test) not in _seen:
        _seen.add((place, test))
        with open({out!r}, "a", encoding="utf-8") as file:
            file.write(place + "\\t" + test + "\\n")
"""
_MARK = '__import__("lib_finetune.marks_of_mutants", fromlist=["reached"]).reached({place!r})'
#: A name of a test that can be given back to pytest as it is; of another, all parameters are run.
_PLAIN_TEST = re.compile(r"[\w./:\-]+(\[[\w./:=,+ -]+\])?")


def marked(source: str, file: str, functions: Collection[int]) -> str:
    """The module's text with a mark at the beginning of these functions.

    Args:
        functions: first lines, as `Mutant.function`.
    """
    lines = source.splitlines(keepends=True)
    marks: dict[int, str] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (first := _first_line(node)) in functions:
            body = node.body[1:] if ast.get_docstring(node) is not None and len(node.body) > 1 else node.body
            if _first_line(body[0]) > node.lineno:
                marks[_first_line(body[0])] = f"{' ' * body[0].col_offset}{_MARK.format(place=f'{file}:{first}')}\n"
    return "".join(marks.get(number, "") + line for number, line in enumerate(lines, start=1))


def _first_line(node: ast.stmt) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])


def places_by_test(lines: Iterable[str]) -> dict[str, list[str]]:
    """Test → the places that it came to, from the lines that the marks wrote."""
    coverage: dict[str, set[str]] = {}
    for place, test in (line.split("\t", 1) for line in lines):
        coverage.setdefault(test if _PLAIN_TEST.fullmatch(test) else test.split("[")[0], set()).add(place)
    return {test: sorted(places) for test, places in coverage.items()}


def mirror_of(file: str) -> str:
    """The test file of a module, whether it exists or not."""
    path = Path(file).relative_to(PACKAGE)
    return (Path("tests") / path.parent / f"test_{path.name}").as_posix()


def covering_tests(mutant: Mutant, coverage: Mapping[str, Sequence[str]], count: int) -> list[str]:
    """So many of the tests that came to a place, those that came to the fewest others first; of those, the mirror's before the rest.

    Args:
        coverage: test → the places that it came to, of `places_by_test`.
    """
    mirror = mirror_of(mutant.file)
    tests = [test for test, places in coverage.items() if f"{mutant.file}:{mutant.function}" in places]
    return sorted(tests, key=lambda test: (not test.startswith(f"{mirror}::"), len(coverage[test]), test))[:count]


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

    def __init__(self, root: Path, out: Path, python: str, limit_s: float, files: int = 8, tests: int = 30) -> None:
        """
        Args:
            out: folder of ``coverage.json`` and ``results.json``.
            limit_s: for the tests of one mutant together.
            files: how many test files are tried for a mutant that no test of the map came to.
            tests: how many tests of the map are tried for a mutant.
        """
        self._root, self._out, self._python, self._limit_s, self._files, self._tests = root, out, python, limit_s, files, tests
        self.coverage: dict[str, list[str]] = _read(out / "coverage.json")
        self.results: dict[str, Any] = _read(out / "results.json")
        self._distances: dict[str, dict[str, int]] = {}
        self._green: dict[str, bool] = {}

    def map(self, mutants: Sequence[Mutant], tests: Sequence[str]) -> None:
        """Note which of these test files' or folders' tests run the functions of the mutants; the notes are added to the map."""
        with self._scratch() as copy:
            out = copy / "reached.txt"
            (copy / PACKAGE / "marks_of_mutants.py").write_text(_MARKS.format(out=str(out)), encoding="utf-8")
            for file in {mutant.file for mutant in mutants}:
                path = copy / file
                functions = {mutant.function for mutant in mutants if mutant.file == file}
                path.write_text(marked(path.read_text(encoding="utf-8"), file, functions), encoding="utf-8")
            command = [self._python, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "-m", _RUN_BY_DEFAULT, *tests]
            subprocess.run(command, cwd=copy, env=_environ(), check=False)
            if out.is_file():
                for test, places in places_by_test(out.read_text(encoding="utf-8").splitlines()).items():
                    self.coverage[test] = sorted({*places, *self.coverage.get(test, ())})
        _write(self._out / "coverage.json", self.coverage)

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="finetune-mutants-") as folder:
            copy = Path(folder) / "project"
            shutil.copytree(self._root, copy, ignore=_LEFT_OUT, symlinks=True)
            yield copy

    def run(self, mutants: Sequence[Mutant]) -> None:
        """Try those that have no result yet, and print a line for each."""
        with self._scratch() as copy:
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
        if covering := covering_tests(mutant, self.coverage, self._tests):
            return covering
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
            failed = next(filter(_SUMMARY.match, output.splitlines()), "")
            if not failed or self._is_green(failed, copy):
                break
        if code == _NO_SUCH_TEST:
            raise RuntimeError(f"pytest does not know all of these: {tests}\n{output}")
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
_NO_SUCH_TEST = 4
#: A line of pytest's summary, and not one of a log that the test wrote.
_SUMMARY = re.compile(r"(FAILED|ERROR) \S+\.py\b")
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
    parser.add_argument("action", choices=("try", "map", "show"))
    parser.add_argument("tests", nargs="*", default=["tests"], help="map: test files or folders (all of tests/)")
    parser.add_argument("--count", type=int, default=80)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[], metavar="PATH", help="places in these files or folders of the package")
    parser.add_argument("--limit", type=float, default=600.0, metavar="SECONDS", help="for the tests of one mutant")
    parser.add_argument("--files", type=int, default=8, metavar="COUNT", help="test files for a mutant without a map")
    parser.add_argument("--tests", dest="most", type=int, default=30, metavar="COUNT", help="tests for a mutant with a map")
    parser.add_argument("--python", default=sys.executable, help="that runs the tests")
    parser.add_argument("--out", type=Path, default=ROOT / "mutants-output", metavar="DIR", help="coverage.json and results.json")
    options = parser.parse_intermixed_args(arguments)
    sampler = Sampler(ROOT, options.out, options.python, options.limit, options.files, options.most)
    places = [mutant for mutant in all_mutants() if not options.only or mutant.file.startswith(tuple(options.only))]
    chosen = sample(places, options.count, options.seed)
    if options.action == "map":
        sampler.map(chosen, options.tests)
        return 0
    if options.action == "try":
        if not sampler.coverage:
            print("There is no map: the test files that are closest to a module by their imports are run.", flush=True)
        sampler.run(chosen)
    results = [sampler.results[mutant.name] for mutant in chosen if mutant.name in sampler.results]
    if options.action == "show":
        print("\n".join(line_of(result) for result in results))
    print(summary(results))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
