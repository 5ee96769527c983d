"""The report for an issue: versions, GPU, driver, flags, settings without private paths, and the last lines of the log."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from lib_finetune import __version__

if TYPE_CHECKING:
    from lib_finetune.jobs.job import Job
    from lib_finetune.jobs.queue import Jobs
    from lib_finetune.ports.host import Host

_LIBRARIES = ("torch", "diffusers", "transformers", "peft", "lycoris-lora", "safetensors", "accelerate", "gradio", "bitsandbytes", "numpy")
_LINES = 50
_SECRETS = re.compile(r"(auth|password|token|key|certfile)", re.IGNORECASE)


class Reports:
    """Reports of one host."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def text(self, name: str = "") -> str:
        """The report as Markdown.

        Args:
            name: id of the job that it is about; "" for the one that runs or ran last.

        Raises:
            InputError: there is no such job.
        """
        job = self._jobs.known.find(name) if name else self._jobs.known.current()
        return report_of(self._jobs.host, job, self._jobs.lost)


def report_of(host: Host | None, job: Job | None = None, lost: str = "") -> str:
    """The report as Markdown.

    Args:
        host: None where no checkpoint is open.
        lost: `Jobs.lost`.
    """
    parts = [
        "### Versions",
        f"Finetune {__version__}, Python {platform.python_version()}, {platform.platform()}",
        ", ".join(_versions()),
        "### GPU and memory",
        *(_of_host(host, lost) if host is not None else [card_and_driver()]),
        "### Flags",
        " ".join(_flags(sys.argv[1:])) or "none",
        *(_of_job(job) if job is not None else ["No run."]),
    ]
    return _without_home("\n".join(parts)) + "\n"


def _of_host(host: Host, lost: str) -> list[str]:
    from lib_finetune.app.about import about

    facts = about(host, lost)
    line = f"{facts['device']}: {card_and_driver()}, {facts['memory']['total'] / 2**30:.1f} GiB in all; checkpoint {facts['checkpoint'] or 'none'}"
    return [line, *(f"Refusal: {reason}" for reason in facts["refusals"])]


def _of_job(job: Job) -> list[str]:
    from lib_finetune.assembly.provenance import public_settings
    from lib_finetune.jobs.status import status_of

    status = status_of(job)
    lines = status["log"][-_LINES:]
    return [
        "### Run",
        f"{job.settings.method}, {status['state']} at {status['done']}/{status['total']}: {status['message']}",
        "### Settings",
        "```json",
        public_settings(job.settings),
        "```",
        "### Log",
        "```text",
        *lines,
        "```",
    ]


def _versions() -> list[str]:
    versions = []
    for library in _LIBRARIES:
        try:
            versions.append(f"{library} {metadata.version(library)}")
        except metadata.PackageNotFoundError:  # said by its absence
            continue
    return versions


def card_and_driver() -> str:
    """Name of the GPU and version of its driver, as nvidia-smi tells them."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "no NVIDIA driver answers"
    return answer.stdout.strip().replace("\n", "; ") or "no NVIDIA driver answers"


def _flags(arguments: list[str]) -> list[str]:
    """Flags of this program; values of those that let somebody in are left out, and folders stand without their path."""
    flags, secret = [], False
    for argument in arguments:
        if argument.startswith("-"):
            flag, equals, value = argument.partition("=")
            secret = bool(_SECRETS.search(flag))
            flags.append(flag + (f"={'…' if secret else _bare(value)}" if equals else ""))
        else:
            flags.append("…" if secret else _bare(argument))
    return flags


def _bare(value: str) -> str:
    return Path(value.replace("\\", "/")).name if "/" in value or "\\" in value else value


def _without_home(text: str) -> str:
    """The text without the folders of this machine: of a path its last part stays."""
    home = str(Path.home())
    text = text.replace(home, "~") if len(home) > 1 else text
    return re.sub(r"(?<![\w<:/])(?:[A-Za-z]:[\\/]|/)(?:[^\s\"'<>|:*?]+[\\/])+", "…/", text)
