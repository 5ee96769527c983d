"""quickstart.py: one command makes the environment once, runs inside it, and says clearly what is wrong."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from lib_finetune.installation import environment, requirements
from lib_finetune.installation.environment import Environment, SetupError

ROOT = Path(__file__).resolve().parents[2]
PYTHON = sys.version_info[:2]
OWN_SET = requirements.set_of_python(PYTHON)


class Programs:
    """Stands for what is started: notes each command and answers with an exit code."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.environs: list[Mapping[str, str]] = []
        self.answer: Callable[[list[str]], int] = lambda command: 0

    def __call__(self, command: Sequence[str], folder: Path, environ: Mapping[str, str]) -> int:
        self.commands.append([str(part) for part in command])
        self.environs.append(environ)
        return self.answer(self.commands[-1])

    def of_pip(self) -> list[list[str]]:
        return [command for command in self.commands if command[1:3] == ["-m", "pip"]]


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Nothing is downloaded: pip and what runs inside are stood in for; the environment's python is a file that is there."""

    def create(made: Environment) -> None:
        made.interpreter.parent.mkdir(parents=True, exist_ok=True)
        made.interpreter.touch()

    programs = Programs()
    monkeypatch.setattr(environment, "run", programs)
    monkeypatch.setattr(environment, "create", create)
    return programs


@pytest.fixture
def fresh(tmp_path: Path) -> Environment:
    return Environment(tmp_path / ".venv", "host", (3, 11))


def test_every_library_of_the_set_is_installed(programs: Programs, fresh: Environment) -> None:
    environment.prepare(fresh)
    first, second = programs.of_pip()
    assert {"torch==2.13.0", "transformers==4.30.2", "gradio==3.41.2", "pytest==9.2.0"} <= set(first)
    assert {"--no-deps", "diffusers==0.30.3", "peft==0.13.2", "lycoris-lora==3.4.0", "open-clip-torch==2.20.0"} <= set(second)


def test_what_is_installed_is_not_installed_again(programs: Programs, fresh: Environment) -> None:
    environment.prepare(fresh)
    calls = len(programs.commands)
    environment.prepare(fresh)
    assert len(programs.commands) == calls


def test_a_changed_pin_is_installed(programs: Programs, fresh: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    environment.prepare(fresh)
    calls = len(programs.commands)
    monkeypatch.setattr(requirements, "_DEVELOPMENT", ("pytest==10.0.0",))
    environment.prepare(fresh)
    assert "pytest==10.0.0" in programs.commands[calls]


def test_a_failed_installation_says_what_to_do_and_is_tried_again(programs: Programs, fresh: Environment) -> None:
    programs.answer = lambda command: 1
    with pytest.raises(SetupError, match="pip ended with exit code 1") as failure:
        environment.prepare(fresh)
    for word in ("network", "GB are free", "run the same command again"):
        assert word in str(failure.value)
    assert not fresh.is_installed()


def test_python_3_10_gets_the_torch_of_most_users() -> None:
    assert requirements.environment_pins("host", (3, 10))[0][0] == "torch==2.1.2"


@pytest.mark.parametrize(("python", "own"), [((3, 10), "host"), ((3, 11), "host"), ((3, 12), "newest"), ((3, 13), "newest")])
def test_the_interpreters_own_set_lies_in_venv(python: tuple[int, int], own: str, tmp_path: Path) -> None:
    chosen = environment.environment_for(None, python, tmp_path)
    assert (chosen.folder, chosen.library_set) == (tmp_path / ".venv", own)


def test_the_other_set_lies_beside_it(tmp_path: Path) -> None:
    assert environment.environment_for("newest", (3, 11), tmp_path).folder == tmp_path / ".venv-newest"


@pytest.mark.parametrize(
    ("library_set", "python", "usable"), [("host", (3, 13), "3.10 or 3.11"), ("newest", (3, 10), "3.11 or 3.12 or 3.13")]
)
def test_a_set_that_this_python_cannot_have_is_refused(library_set: str, python: tuple[int, int], usable: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=usable):
        environment.environment_for(library_set, python, tmp_path)


def test_tests_run_inside_with_pytests_own_arguments() -> None:
    assert environment.inner_command(["test", "-k", "names and not slow", "--libraries", "host", "tests/model", "-x"]) == (
        "host",
        ["pytest", "-n", "logical", "--maxprocesses", "4", "--dist", "worksteal", "-k", "names and not slow", "tests/model", "-x"],
    )


def test_the_main_job_writes_where_the_person_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert environment.inner_command(["--output-root", "here"]) == (
        None,
        ["bench", "quickstart", "--output-root", str(tmp_path / "here")],
    )


def test_the_tab_has_the_webuis_libraries_and_paths_of_where_the_person_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert environment.inner_command(["ui"]) == ("host", ["bench", "ui"])
    assert environment.inner_command(["ui", "--checkpoint", "a.ckpt", "--port", "7", "--output-root", "here"]) == (
        "host",
        ["bench", "ui", "--output-root", str(tmp_path / "here"), "--checkpoint", str(tmp_path / "a.ckpt"), "--port", "7"],
    )


def test_on_a_python_without_the_tabs_libraries_it_is_said_which_have_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 12, 0))
    assert environment.main(["ui"]) == 1
    message = capsys.readouterr().err
    assert "gradio that the tab needs" in message and "needs Python 3.10 or 3.11; this is Python 3.12" in message


@pytest.mark.parametrize("code", [0, 1, 2])
def test_the_exit_code_of_what_ran_inside_is_passed_on(
    programs: Programs, fresh: Environment, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(environment, "environment_for", lambda library_set, python: fresh)
    programs.answer = lambda command: code if "bench" in command else 0
    assert environment.main([]) == code
    assert programs.commands[-1] == [str(fresh.interpreter), "-m", "bench", "quickstart"]


def test_a_failed_set_up_is_one_message_and_exit_code_1(
    programs: Programs, fresh: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environment, "environment_for", lambda library_set, python: fresh)
    programs.answer = lambda command: 1
    assert environment.main(["test"]) == 1
    assert "could not be installed" in capsys.readouterr().err
    assert len(programs.commands) == 1


def test_idle_threads_sleep_and_no_other_python_shines_in() -> None:
    environ = environment.child_environ({"PATH": "/bin", "PYTHONPATH": "/elsewhere", "PYTHONHOME": "/elsewhere"})
    assert environ == {"PATH": "/bin", "PYTHONNOUSERSITE": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def test_cuda_is_asked_for_where_the_index_does_not_give_it() -> None:
    assert environment.cuda_index("torch==2.1.2", "Windows", has_nvidia=True)[0] == "--extra-index-url"
    assert environment.cuda_index("torch==2.1.2", "Windows", has_nvidia=False) == []
    assert environment.cuda_index("torch==2.1.2", "Linux", has_nvidia=True) == []


def test_a_program_that_is_killed_ends_with_an_error_code(tmp_path: Path) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
    assert environment.run([sys.executable, "-c", code], tmp_path, os.environ) != 0


@pytest.mark.environment
@pytest.mark.skipif(os.name == "nt", reason="the broken link is a POSIX one")
def test_a_real_environment_is_made_and_one_that_does_not_start_is_made_anew(tmp_path: Path) -> None:
    made = Environment(tmp_path / ".venv", "host", PYTHON)
    environment.create(made)
    assert environment.starts(made)
    made.interpreter.unlink()
    made.interpreter.symlink_to(tmp_path / "python-that-was-removed")
    assert not environment.starts(made)
    environment.create(made)
    assert environment.starts(made)


def test_an_environment_of_another_python_does_not_count(tmp_path: Path) -> None:
    made = Environment(Path(sys.prefix), "host", (3, 9))
    assert not environment.starts(made)


def test_a_folder_that_cannot_be_made_is_a_message(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="Could not make a virtual environment"):
        environment.create(Environment(tmp_path / "file" / ".venv", "host", PYTHON))


# --- quickstart.py itself ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["(2, 7, 18)", "(3, 9, 18)", "(3, 14, 0)"])
def test_an_unsupported_python_gets_one_clear_message(version: str) -> None:
    code = f"import runpy, sys; sys.version_info = {version}; runpy.run_path('quickstart.py', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Finetune needs Python 3.10, 3.11, 3.12 or 3.13; this is Python " + version[1:].split(",")[0])
    assert "Traceback" not in done.stderr


def test_any_old_python_can_read_the_file() -> None:
    tree = ast.parse((ROOT / "quickstart.py").read_text(encoding="utf-8"), feature_version=(3, 4))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr | ast.AnnAssign)]


def test_the_message_names_what_the_table_supports() -> None:
    assert {f"{major}.{minor}" for major, minor in requirements.SET_OF_PYTHON} == {"3.10", "3.11", "3.12", "3.13"}


def test_only_the_standard_library_is_needed_until_the_environment_exists() -> None:
    code = (
        "import sys; sys.path.insert(0, '.'); import lib_finetune.installation.environment; "
        "print({name.split('.')[0] for name in sys.modules} - sys.stdlib_module_names - {'lib_finetune', '__main__'})"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_help_needs_no_environment() -> None:
    done = subprocess.run([sys.executable, "quickstart.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "test [--libraries host|newest]" in done.stdout


# --- .ci/run ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt" or shutil.which("bash") is None, reason=".ci/run is a shell script")
@pytest.mark.parametrize(("failing", "code"), [("none", 0), ("host", 1), ("newest", 1)])
def test_ci_runs_each_set_and_fails_when_one_fails(tmp_path: Path, failing: str, code: int) -> None:
    """With stand-ins for the interpreters, of which one says that it fits any set, and for quickstart.py."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    (tmp_path / "bin").mkdir()
    stand_in = tmp_path / "bin" / "python3.11"
    stand_in.write_text(
        f'#!/bin/sh\n[ "$1" = quickstart.py ] || exit 0\necho "tests of $4"\necho "9 passed of $4"\n[ "$4" != {failing} ]\n',
        encoding="utf-8",
    )
    stand_in.chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run([tmp_path / ".ci" / "run"], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == code
    closing = done.stdout.split("== summary")[1]
    assert "host: exit code" in closing
    assert "9 passed of newest" in closing


# --- the real thing ---------------------------------------------------------------------------------------------------


@pytest.mark.environment
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("library_set", requirements.LIBRARY_SETS)
def test_a_clone_sets_itself_up_and_runs_tests(library_set: str, tmp_path: Path) -> None:
    if PYTHON not in requirements.PYTHONS_OF_SET[library_set]:
        pytest.skip(f"the set {library_set} is not for Python {PYTHON[0]}.{PYTHON[1]}")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
    command = [sys.executable, "quickstart.py", "test", "--libraries", library_set, "-q", "tests/installation/test_install.py"]
    first = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "Installed in" in first.stdout
    again = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=True)
    assert "Installing" not in again.stdout
    assert (clone / (".venv" if library_set == OWN_SET else f".venv-{library_set}")).is_dir()
