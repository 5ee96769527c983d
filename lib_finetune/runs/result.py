"""How a run ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lib_finetune.ports.host import Restoration


@dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
        outcome: "done", "stopped" or "discarded".
        file: the result, or None.
        steps: steps in the result.
        restoration: the host before and after.
        files: kind → each file of the result.
        warning: sentences on why the person should check the result before use, or "".
    """

    outcome: str
    file: Path | None
    steps: int
    restoration: Restoration
    files: Mapping[str, Path] = field(default_factory=dict)
    warning: str = ""
