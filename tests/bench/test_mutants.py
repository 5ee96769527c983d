"""The sampler of mutants: which places it changes, which tests it runs, and that it tells a caught change from one that survives."""

import ast
import json
import sys
import textwrap

import pytest

from bench import mutants
from bench.mutants import Sampler, close_tests, covering_tests, import_distances, marked, mutants_of, places_by_test, sample

SOURCE = textwrap.dedent(
    '''
    """A module."""

    from typing import TYPE_CHECKING

    if TYPE_CHECKING:
        import numpy

    LIMIT: int = 3


    def cut(values: "list[int]", log) -> "list[int]":
        """Keep what is small."""
        if len(values) > LIMIT:
            log.append(f"é {len(values) > 3}")
            _log.warning("too many")
            return values[:LIMIT]
        return values
    '''
).lstrip()


def changes(kind):
    return [(mutant.before, mutant.after) for mutant in mutants_of(SOURCE, "lib_finetune/x.py") if mutant.kind == kind]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("comparison flipped", [("len(values) > LIMIT", "(len(values) <= LIMIT)")]),
        ("number changed", [("3", "4")]),
        ("call dropped", [('log.append(f"é {len(values) > 3}")', "pass")]),
        ("branch cut", [("len(values) > LIMIT", "False")]),
        ("return emptied", [("values[:LIMIT]", "None"), ("values", "None")]),
    ],
)
def test_each_kind_of_change_has_its_places(kind, expected):
    assert changes(kind) == expected


def test_every_kind_is_looked_for():
    assert {mutant.kind for mutant in mutants_of(SOURCE, "lib_finetune/x.py")} == set(mutants.KINDS)


def test_a_change_touches_nothing_else():
    for mutant in mutants_of(SOURCE, "lib_finetune/x.py"):
        changed = mutant.applied(SOURCE)
        ast.parse(changed)
        first, last = mutant.line - 1, mutant.end_line
        before, after = SOURCE.splitlines(), changed.splitlines()
        assert before[:first] == after[:first] and before[last:] == after[len(after) - len(before) + last :]
        assert changed != SOURCE


def test_a_place_knows_its_function():
    functions = {mutant.line: mutant.function for mutant in mutants_of(SOURCE, "lib_finetune/x.py")}
    start = SOURCE.splitlines().index('def cut(values: "list[int]", log) -> "list[int]":') + 1
    assert functions[SOURCE.splitlines().index("LIMIT: int = 3") + 1] == 0
    assert functions[start + 2] == start


def test_the_sample_follows_from_the_seed():
    places = mutants_of(SOURCE * 30, "lib_finetune/x.py")
    assert sample(places, 20, 3) == sample(places, 20, 3) != sample(places, 20, 4)


def test_every_place_of_the_package_has_a_name_of_its_own():
    names = [place.name for place in mutants.all_mutants()]
    assert len(set(names)) == len(names) > 1000


@pytest.fixture
def project(tmp_path):
    """A project of one module with two functions, of which the tests hold one."""
    for folder in ("lib_finetune/data", "tests/data", "tests/app"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\npythonpath = ["."]\naddopts = ["--import-mode=importlib"]\n')
    (tmp_path / "lib_finetune/data/sums.py").write_text("def more(x):\n    return x + 1\n\n\ndef less(x):\n    return x - 1\n")
    imports = "from lib_finetune.data.sums import less, more\n\n\n"
    (tmp_path / "tests/data/test_sums.py").write_text(
        f"import logging\n\n{imports}def test_more():\n    if more(1) != 2:\n        logging.error('told')\n    assert more(1) == 2\n"
    )
    (tmp_path / "tests/app/test_all.py").write_text(f"{imports}def test_both():\n    more(1)\n    assert less(1) is not None\n")
    (tmp_path / "tests/app/test_red.py").write_text(f"{imports}def test_red():\n    assert less(1) == 5\n")
    return tmp_path


def places(project):
    return mutants.all_mutants(project)


def test_a_mark_stands_at_the_beginning_of_each_function_that_is_asked_for(project):
    source = textwrap.dedent(
        '''
        def first(x):
            """One."""
            return x


        @property
        def second(self):
            def inner(): return 1
            return inner


        def third():
            pass
        '''
    ).lstrip()
    lines = marked(source, "lib_finetune/x.py", {1, 6, 8}).splitlines()
    marks = [(number, line) for number, line in enumerate(lines, start=1) if ".reached(" in line]
    assert [(number, line[:4], line[4], line.rsplit("reached(", 1)[1]) for number, line in marks] == [
        (3, "    ", "_", "'lib_finetune/x.py:1')"),  # behind the docstring
        (
            9,
            "    ",
            "_",
            "'lib_finetune/x.py:6')",
        ),  # the line of the decorator is the function's first; its one-line function has no room for a mark
    ]
    assert [line for line in lines if ".reached(" not in line] == source.splitlines()


def test_notes_become_a_map_from_tests_to_places():
    plain, odd = "tests/x.py::test_a[1-b]", "tests/x.py::test_b[a/../b 'c']"
    notes = [f"a.py:1\t{plain}", f"b.py:2\t{plain}", f"a.py:1\t{plain}", f"b.py:2\t{odd}"]
    assert places_by_test(notes) == {plain: ["a.py:1", "b.py:2"], "tests/x.py::test_b": ["b.py:2"]}


def test_the_mirrors_tests_come_first_and_those_that_run_little_before_those_that_run_much(project):
    less = next(place for place in places(project) if place.line == 6)
    here = f"{less.file}:5"
    coverage = {
        "tests/app/test_all.py::test_much": [here, "a:1", "b:1"],
        "tests/app/test_all.py::test_little": [here],
        "tests/app/test_all.py::test_other": [f"{less.file}:1"],
        "tests/data/test_sums.py::test_less": [here, "a:1", "b:1", "c:1"],
    }
    order = ["tests/data/test_sums.py::test_less", "tests/app/test_all.py::test_little", "tests/app/test_all.py::test_much"]
    assert covering_tests(less, coverage, 9) == order
    assert covering_tests(less, coverage, 2) == order[:2]


def test_imports_say_how_close_a_test_file_is(project):
    (project / "lib_finetune/data/__init__.py").write_text("")
    (project / "lib_finetune/data/totals.py").write_text(
        "def total(values):\n    from lib_finetune.data import sums\n\n    return sums.more(0)\n"
    )
    (project / "tests/app/test_totals.py").write_text("import lib_finetune.data.totals\n")
    (project / "tests/app/test_other.py").write_text("import json\n")
    distances = import_distances(project)
    assert distances["tests/app/test_totals.py"] == {"lib_finetune/data/totals.py": 1, "lib_finetune/data/sums.py": 2}
    assert distances["tests/app/test_other.py"] == {}
    assert distances["tests/data/test_sums.py"] == {"lib_finetune/data/sums.py": 1}


def test_without_a_map_the_closest_files_come_first(project):
    less = next(place for place in places(project) if place.line == 6)
    (project / "lib_finetune/data/totals.py").write_text("from lib_finetune.data.sums import more\n")
    for test, text in {
        "tests/data/test_totals.py": "import lib_finetune.data.totals\n",
        "tests/app/test_totals.py": "import lib_finetune.data.totals\n",
        "tests/app/test_none.py": "from lib_finetune.data.sums import more\n",
        "tests/app/test_other.py": "import json\n",
    }.items():
        (project / test).write_text(text)
    order = [
        "tests/data/test_sums.py",  # the mirror
        "tests/app/test_red.py",  # a direct import, and names the function
        "tests/app/test_all.py",  # the same, and longer
        "tests/data/test_totals.py",  # two imports away, in the module's room
        "tests/app/test_none.py",  # a direct import from another room, and does not name the function
        "tests/app/test_totals.py",
    ]
    assert close_tests(less, import_distances(project), project, 9) == order
    assert close_tests(less, import_distances(project), project, 2) == order[:2]


@pytest.mark.slow  # starts pytest some ten times
def test_without_a_map_close_files_catch_what_the_mirror_lets_pass(project, tmp_path, capsys):
    sampler = Sampler(project, tmp_path / "out", sys.executable, 60)
    sampler.run(places(project))
    results = {(result["line"], result["kind"]): (result["result"], result["failure"]) for result in sampler.results.values()}
    assert results[2, "number changed"][0] == "caught" and "tests/data/test_sums.py::test_more" in results[2, "number changed"][1]
    assert results[6, "return emptied"][0] == "caught" and "tests/app/test_all.py::test_both" in results[6, "return emptied"][1]
    assert results[6, "number changed"] == ("survived", "")  # a test that is red without the change catches nothing
    assert capsys.readouterr().out.count("test_red does not pass without a change") == 1

    alone = Sampler(project, tmp_path / "fewer", sys.executable, 60, files=1)
    alone.run(places(project)[-1:])
    assert [(result["tests"], result["result"]) for result in alone.results.values()] == [(["tests/data/test_sums.py"], "survived")]


@pytest.mark.slow  # starts pytest some ten times
def test_caught_survived_and_carried_on(project, tmp_path, capsys, monkeypatch):
    sampler = Sampler(project, tmp_path / "out", sys.executable, 60)
    sampler.map(places(project), ["tests/app/test_all.py"])
    sampler.map(places(project), ["tests/app/test_red.py", "tests/data"])
    more, less = "lib_finetune/data/sums.py:1", "lib_finetune/data/sums.py:5"
    assert sampler.coverage == {
        "tests/app/test_all.py::test_both": [more, less],
        "tests/app/test_red.py::test_red": [less],
        "tests/data/test_sums.py::test_more": [more],
    }
    sampler.run(places(project))
    found = {(result["line"], result["kind"]): result["result"] for result in sampler.results.values()}
    assert found == {
        (2, "return emptied"): "caught",  # by the mirror
        (2, "number changed"): "caught",
        (6, "return emptied"): "caught",  # by a file that the map names
        (6, "number changed"): "survived",
    }
    printed = capsys.readouterr().out
    assert "tests/app/test_red.py::test_red does not pass without a change" in printed
    assert "survived    lib_finetune/data/sums.py:6  number changed: 1 -> 2" in printed
    assert mutants.summary(list(sampler.results.values())).endswith("75 % of 4 caught")
    assert json.loads((tmp_path / "out/results.json").read_text()) == sampler.results
    assert (project / "lib_finetune/data/sums.py").read_text().count("1") == 2  # the project itself is not touched

    again = Sampler(project, tmp_path / "out", sys.executable, 60)
    monkeypatch.setattr(again, "_tried", lambda *_: pytest.fail("tried twice"))
    again.run(places(project))
    again.coverage["tests/app/test_more.py::test_nothing"] = ["lib_finetune/data/sums.py:5"]
    (project / "tests/app/test_more.py").write_text("def test_nothing():\n    pass\n")
    with pytest.raises(pytest.fail.Exception, match="tried twice"):  # other tests may catch what has survived
        again.run(places(project))
    (project / "lib_finetune/data/sums.py").write_text("def more(x):\n    return x + 2\n")
    with pytest.raises(pytest.fail.Exception, match="tried twice"):
        again.run(places(project)[:1])


def test_a_change_that_never_ends_is_out_of_time(project, tmp_path):
    (project / "lib_finetune/data/sums.py").write_text(
        "def more(x):\n    while x < 2:\n        x += 1\n    return x\n\n\ndef less(x):\n    return x\n"
    )
    sampler = Sampler(project, tmp_path / "out", sys.executable, 5)
    flipped = [place for place in places(project) if place.line == 3]  # x += 2 ends; x = 1, then 3
    endless = [mutants.Mutant(flipped[0].file, 3, 13, 3, 14, "number changed", "1", "0", 1)]
    sampler.run(endless)
    assert [result["result"] for result in sampler.results.values()] == ["out of time"]
