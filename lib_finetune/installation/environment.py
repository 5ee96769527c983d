"""The project's own virtual environment: made, filled and entered by quickstart.py. Only the standard library is imported."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib_finetune.installation import requirements

ROOT = Path(__file__).resolve().parents[2]
STAMP = "finetune-installed.txt"
USAGE = """usage: python quickstart.py [--output-root DIR]
           sets everything up, trains a LoRA on the sample images and prints where the file is
       python quickstart.py ui [--output-root DIR] [--checkpoint FILE] [--port P]
           sets everything up and serves the tab without the WebUI, with a small checkpoint unless another is named
           (Python 3.10 or 3.11: the tab needs the WebUI's own libraries)
       python quickstart.py test [--libraries host|newest] [arguments of pytest ...]
           sets everything up and runs all tests; -m unit runs those of one tier (unit, integration, slow, browser)"""
_ABOUT_SET = {"host": " (the WebUI's own libraries, among them the gradio that the tab needs)"}


class SetupError(Exception):
    """The environment could not be made; the message says what failed and what to do."""


@dataclass(frozen=True)
class Environment:
    """One virtual environment and what belongs into it."""

    folder: Path
    library_set: str
    python: tuple[int, int]

    @property
    def interpreter(self) -> Path:
        """Its python, whether it exists or not."""
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def stamp_text(self) -> str:
        """The text of the stamp of a finished installation; it changes with every pin."""
        with_dependencies, without = requirements.environment_pins(self.library_set, self.python)
        version = ".".join(map(str, self.python))
        return "\n".join([f"python {version}", *with_dependencies, "--no-deps", *without]) + "\n"

    def is_installed(self) -> bool:
        """Whether the last installation ended well and had the same pins."""
        stamp = self.folder / STAMP
        return self.interpreter.is_file() and stamp.is_file() and stamp.read_text(encoding="utf-8") == self.stamp_text()


def environment_for(library_set: str | None, python: tuple[int, int], root: Path = ROOT) -> Environment:
    """The environment of a library set, or of the interpreter's own set when None.

    Raises:
        SetupError: the set cannot be installed on this Python.
    """
    own = requirements.set_of_python(python)
    chosen = library_set or own
    if chosen is None or python not in requirements.PYTHONS_OF_SET[chosen]:
        usable = " or ".join(".".join(map(str, version)) for version in requirements.PYTHONS_OF_SET[chosen or "newest"])
        raise SetupError(
            f"The library set {chosen or 'newest'!r}{_ABOUT_SET.get(str(chosen), '')} needs Python {usable}; "
            f"this is Python {python[0]}.{python[1]} ({sys.executable}).\n"
            "Run quickstart.py with one of those."
        )
    return Environment(root / (".venv" if chosen == own else f".venv-{chosen}"), chosen, python)


def prepare(environment: Environment) -> None:
    """Make and fill the environment; returns at once when that was done before.

    Raises:
        SetupError: with what failed and what to do.
    """
    if environment.is_installed():
        return
    began = time.monotonic()
    stamp = environment.folder / STAMP
    stamp.unlink(missing_ok=True)
    create(environment)
    print(
        f"Installing the libraries ({environment.library_set} set) into {environment.folder}; the first time takes some minutes.",
        flush=True,
    )
    with_dependencies, without = requirements.environment_pins(environment.library_set, environment.python)
    pip_install(environment, [*cuda_index(with_dependencies[0]), *with_dependencies])
    pip_install(environment, ["--no-deps", *without])
    stamp.write_text(environment.stamp_text(), encoding="utf-8")
    print(f"Installed in {time.monotonic() - began:.0f} s.", flush=True)


def create(environment: Environment) -> None:
    """Make the virtual environment unless it is there; one of another Python, or one that does not start, is made anew."""
    settings = environment.folder / "pyvenv.cfg"
    if starts(environment):
        return
    print(f"Making a virtual environment in {environment.folder}", flush=True)
    clear = ["--clear"] if settings.is_file() else []
    done = subprocess.run([sys.executable, "-m", "venv", *clear, str(environment.folder)], env=child_environ(os.environ), check=False)
    if done.returncode != 0:
        version = ".".join(map(str, environment.python))
        raise SetupError(
            f"Could not make a virtual environment in {environment.folder} (exit code {done.returncode}; see the message above).\n"
            f"On Debian and Ubuntu, first run: sudo apt install python{version}-venv\n"
            "Elsewhere, check that the folder can be written and that the disk has room; then run the same command again."
        )


def starts(environment: Environment) -> bool:
    """Whether the environment's python runs, is of the wanted version and has pip."""
    check = f"import sys, pip; sys.exit(sys.version_info[:2] != {environment.python!r})"
    try:
        return subprocess.run([environment.interpreter, "-c", check], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def pip_install(environment: Environment, arguments: Sequence[str]) -> None:
    """Install with the environment's own pip, its output in sight."""
    command = [str(environment.interpreter), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *arguments]
    code = run(command, ROOT, child_environ(os.environ))
    if code == 0:
        return
    free_gb = shutil.disk_usage(environment.folder).free / 1e9
    raise SetupError(
        f"The libraries could not be installed: pip ended with exit code {code}, see its message above.\n"
        "- No connection: check the network and the proxy (pip reads HTTPS_PROXY).\n"
        f"- Disk: {free_gb:.1f} GB are free at {environment.folder}; with CUDA about 8 GB are needed, without about 2 GB.\n"
        f"- No matching distribution: there is no build for this machine ({platform.system()} {platform.machine()}, "
        f"Python {environment.python[0]}.{environment.python[1]}); the README names those that work.\n"
        "Then run the same command again; it continues where it stopped."
    )


def cuda_index(torch_pin: str, system: str | None = None, *, has_nvidia: bool | None = None) -> list[str]:
    """pip's arguments to get torch with CUDA on Windows, where the package index holds only the one without."""
    system = system or platform.system()
    nvidia = has_nvidia if has_nvidia is not None else shutil.which("nvidia-smi") is not None
    return ["--extra-index-url", requirements.TORCH_CUDA_INDEX[torch_pin]] if system == "Windows" and nvidia else []


def child_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables for what runs inside: nothing of another Python shines in, and idle threads sleep instead of spinning."""
    inherited = {name: value for name, value in environ.items() if name not in {"PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV"}}
    return {**inherited, "PYTHONNOUSERSITE": "1", "OMP_WAIT_POLICY": environ.get("OMP_WAIT_POLICY", "PASSIVE")}


def run(command: Sequence[str], folder: Path, environ: Mapping[str, str]) -> int:
    """Run a program to its end and return its exit code; Ctrl-C reaches it directly, and it is given the time to end in its own way."""
    with subprocess.Popen(command, cwd=folder, env=dict(environ)) as child:
        while True:
            try:
                code = child.wait()
            except KeyboardInterrupt:
                continue
            return code if code >= 0 else 128 - code


def inner_command(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """Split the command line into the library set that was asked for and what is run inside as ``python -m ...``."""
    parser = argparse.ArgumentParser("quickstart.py", usage=USAGE[len("usage: ") :], add_help=False, allow_abbrev=False)
    if arguments[:1] == ["test"]:
        parser.add_argument("--libraries", choices=requirements.LIBRARY_SETS)
        known, rest = parser.parse_known_args(arguments[1:])
        # Before the caller's own arguments, so that these can say otherwise (-n 0). A worker that is done takes over what waits behind
        # a long test of another.
        return known.libraries, ["pytest", "-n", "logical", "--maxprocesses", "4", "--dist", "worksteal", *rest]
    shows_tab = arguments[:1] == ["ui"]
    for flag in ("--output-root", "--checkpoint") if shows_tab else ("--output-root",):
        parser.add_argument(flag, dest=flag, type=Path)
    known, rest = parser.parse_known_args(arguments[1:] if shows_tab else arguments)
    # The command runs in the project's folder; the person means the folder where they are.
    paths = [part for flag, path in vars(known).items() if path for part in (flag, str(path.absolute()))]
    return ("host", ["bench", "ui", *paths, *rest]) if shows_tab else (None, ["bench", "quickstart", *paths, *rest])


def main(arguments: Sequence[str]) -> int:
    """The command line of quickstart.py; returns the exit code of what ran inside, 1 when the environment could not be made."""
    if arguments[:1] in (["-h"], ["--help"]):
        print(USAGE)
        return 0
    library_set, command = inner_command(arguments)
    try:
        environment = environment_for(library_set, sys.version_info[:2])
        prepare(environment)
    except SetupError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"\nThe environment could not be made: {error}. Check that {ROOT} can be written and has room.", file=sys.stderr)
        return 1
    return run([str(environment.interpreter), "-m", *command], ROOT, child_environ(os.environ))
