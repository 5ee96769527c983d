"""README and guide say what is there: links, settings, routes, commands, the port, and the packages that are added."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lib_finetune import cli
from lib_finetune.config import codec
from lib_finetune.installation.requirements import ADD_ONS

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("README.md", "docs/guide.md")
LINK = re.compile(r"\]\((?P<file>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def anchors(document: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", [*DOCUMENTS, "CONTRIBUTING.md", "SECURITY.md", "docs/architecture.md"])
def test_each_link_leads_somewhere(document: str) -> None:
    here = ROOT / document
    lost = []
    for found in LINK.finditer(text_of(document)):
        if found["file"].startswith("http"):
            continue
        target = (here.parent / found["file"]).resolve() if found["file"] else here
        if not target.exists() or (found["anchor"] and found["anchor"] not in anchors(target)):
            lost.append(found[0])
    assert lost == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# One house\n", encoding="utf-8")
    assert anchors(tmp_path / "a.md") == {"one-house"}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_each_setting_that_is_named_exists(document: str) -> None:
    sections = {path.partition(".")[0] for path in codec.all_leaves() if "." in path}
    named = set(re.findall(rf"\b((?:{'|'.join(sorted(sections))})\.[a-z_]+)\b", text_of(document)))
    assert sorted(named - set(codec.all_leaves())) == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_each_option_of_the_command_line_exists(document: str) -> None:
    parser = cli._parser()
    commands = parser._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    for line in re.findall(r"python -m lib_finetune [^`\n]*(?:\n {8,}[^\n]*)*", text_of(document)):
        command = re.match(r"python -m lib_finetune ([a-z]+)", line)
        assert command and command[1] in commands, line
        options = {option for action in commands[command[1]]._actions for option in action.option_strings}
        assert sorted(set(re.findall(r"--[a-z-]+", line)) - options) == [], line


def test_the_port_is_the_one_that_is_served() -> None:
    port = cli._parser().parse_args(["ui"]).port
    for document in DOCUMENTS:
        assert {int(found) for found in re.findall(r"127\.0\.0\.1:(78\d\d)", text_of(document))} <= {port, 7860}
    assert f"127.0.0.1:{port}" in text_of("README.md")


def test_each_route_of_the_guide_exists() -> None:
    pytest.importorskip("fastapi")
    from fastapi import FastAPI

    from lib_finetune.api.application import mount

    app = FastAPI()
    mount(app, lambda: None, lambda *_: None)  # type: ignore[arg-type, return-value]
    served = [re.sub(r"\{[^}]+\}", "[^/]+", route.path) for route in app.routes if route.path.startswith("/finetune/")]  # type: ignore[attr-defined]
    named = {found.rstrip("/'`") for found in re.findall(r"/finetune/v1/[A-Za-z_/]+", text_of("docs/guide.md"))}
    assert len(named) > 4
    assert sorted(path for path in named - {"/finetune/v1"} if not any(re.fullmatch(route, path) for route in served)) == []


def test_the_packages_that_are_added_are_named() -> None:
    assert [add_on.name for add_on in ADD_ONS["host"] if add_on.name not in text_of("README.md")] == []


def test_readme_is_short() -> None:
    assert len(text_of("README.md").splitlines()) <= 130
