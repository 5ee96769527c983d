"""Adds the libraries that are missing to the WebUI's environment. The WebUI runs this file at each start.

A package that is there, of whatever version, is left alone; nothing but our own lines is ever added (`--no-deps`). Whatever
goes wrong ends in one line on standard output (the WebUI drops the error stream) and exit code 0, so that the WebUI starts.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from lib_finetune.installation import requirements

INSTALL_TIMEOUT_S = 300

#: Words of pip by which an index out of reach is known; trying the next package would only wait again.
NO_CONNECTION = ("connection", "name resolution", "timed out", "timeout", "unreachable", "proxy", "getaddrinfo", "ssl")


def pip_command(pin: str, environ: Mapping[str, str]) -> list[str]:
    """The one way in which anything is installed here; INDEX_URL is the WebUI's own variable for another index."""
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--prefer-binary", "--disable-pip-version-check", "--no-input"]
    command += ["--retries", "1", "--timeout", "15"]
    index = environ.get("INDEX_URL", "")
    return [*command, *(["--index-url", index] if index else []), pin]


def run_pip(pin: str) -> str:
    """Install one pin; returns "" when it worked, otherwise what pip said."""
    try:
        done = subprocess.run(
            pip_command(pin, os.environ), capture_output=True, encoding="utf-8", errors="replace", timeout=INSTALL_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"timed out after {INSTALL_TIMEOUT_S} s"
    except OSError as error:
        return str(error)
    return "" if done.returncode == 0 else (done.stdout + done.stderr).strip() or f"pip ended with exit code {done.returncode}"


def has_no_connection(output: str) -> bool:
    """Whether pip's words tell that the package index could not be reached."""
    return any(word in output.lower() for word in NO_CONNECTION)


def reason(output: str) -> str:
    """pip's output in a few words: its last error line, or that there is no connection."""
    if has_no_connection(output):
        return "the package index could not be reached"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()] or lines or ["no reason given"]
    return errors[-1].removeprefix("ERROR: ").rstrip(".")


def add_missing(install: Callable[[str], str]) -> list[str]:
    """Add each library of which there is no copy; returns the lines to show. ``install(pin)`` returns "" or what went wrong."""
    lines: list[str] = []
    failed: list[str] = []
    why = ""
    for add_on in requirements.missing():
        if why and has_no_connection(why):
            failed.append(add_on.pin)
        elif output := install(add_on.pin):
            why = output
            failed.append(add_on.pin)
        else:
            lines.append(f"Finetune: added {add_on.name} {add_on.version} (no other package was changed).")
    if failed:
        command = requirements.command_to_add(failed)
        lines.append(f"Finetune: could not add {', '.join(failed)}: {reason(why)}. The WebUI starts without; to add them, run: {command}")
    return lines


def main() -> None:
    """Add what is missing and say so; never raises, because the WebUI's start goes on in any case."""
    try:
        lines = add_missing(run_pip)
    except Exception as error:
        lines = [f"Finetune: could not look after its libraries ({type(error).__name__}: {error}). The WebUI starts without."]
    for line in lines:
        print(line)


if __name__ == "__main__":
    main()
