"""Whether two paths name one file."""

from __future__ import annotations

import os
from pathlib import Path


def same_file(first: str | Path, second: str | Path) -> bool:
    """Equal paths after links are followed."""
    return os.path.realpath(first) == os.path.realpath(second)
