"""Writes ``settings.json`` anew: default, limits and choices of every setting.

python tests/golden/make_settings.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("settings.json")


def promises() -> dict[str, dict[str, Any]]:
    """Path → what people rely on."""
    from lib_finetune.config.fields import leaves
    from lib_finetune.config.settings import Settings

    return {
        leaf.path: {"default": leaf.default, "low": leaf.about.low, "high": leaf.about.high, "choices": leaf.about.allowed()}
        for leaf in leaves(Settings)
    }


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    lines = (f"{json.dumps(path)}: {json.dumps(promise, ensure_ascii=False)}" for path, promise in promises().items())
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
