"""What axe-core finds wrong for people who hear the page or use the keyboard, in our part of it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

_PACKAGE = "axe_playwright_python"
_OURS = "#finetune_root"
_GRAVE = ("serious", "critical")
_RUN = """async ([ours, grave]) => {
    const places = (rule) => rule.nodes.slice(0, 4).map((node) => `${node.target.join(" ")}: ${node.html.slice(0, 160)} ${node.any[0]?.message || ""}`);
    const result = await axe.run(ours, {resultTypes: ["violations"]});
    return result.violations.filter((rule) => grave.includes(rule.impact)).map((rule) => `${rule.id} (${rule.impact}): ${places(rule).join(" | ")}`);
}"""


def script() -> str:
    """axe-core's source, of the package that brings it; "" where it is not installed."""
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        return ""
    return (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")


def violations(page: Any) -> list[str]:
    """The rules that are broken seriously or critically, each with the first places.

    Args:
        page: playwright's.

    Raises:
        RuntimeError: axe-core is not installed.
    """
    source = script()
    if not source:
        raise RuntimeError(f"{_PACKAGE} is not installed; it brings axe-core: pip install axe-playwright-python")
    page.evaluate(source)
    return list(page.evaluate(_RUN, [_OURS, _GRAVE]))
