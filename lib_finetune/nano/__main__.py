"""The command line of the drawn world: ``python -m lib_finetune.nano {install,subject,style,class} ...``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lib_finetune.errors import FinetuneError

from . import checkpoint, folders
from .install import install
from .shapes import SHAPES
from .world import STYLES, SUBJECTS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a mistake in the input is one message and exit code 2."""
    options = _parser().parse_args(arguments)
    try:
        print(_run(options))  # noqa: T201 - the command line's answer
    except FinetuneError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    return 0


def _run(options: argparse.Namespace) -> str:
    if options.command == "install":
        return f"{install(options.webui, options.checkpoint)} is installed: refresh the WebUI's list of checkpoints and choose it."
    if options.command == "class":
        scenes = folders.write_class(options.folder, options.name, count=options.count or 100, seed=options.seed)
    elif options.command == "style":
        scenes = folders.write_style(options.folder, options.name, count=options.count or 10, seed=options.seed)
    else:
        scenes = folders.write_subject(options.folder, options.name, count=options.count or 8, seed=options.seed)
    return f"{options.folder}: {len(scenes)} pictures with captions"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lib_finetune nano", description="The drawn world and its small SD1.5 checkpoint.")
    commands = parser.add_subparsers(dest="command", required=True)
    to_webui = commands.add_parser("install", help="put the nano checkpoint into a WebUI")
    to_webui.add_argument("--webui", type=Path, required=True, help="the WebUI's folder (or its data folder): the one that holds 'models'")
    to_webui.add_argument("--checkpoint", type=Path, default=checkpoint.FILE, help="another nano checkpoint than the one of the project")
    for command, names in (("subject", SUBJECTS), ("style", [style for style in STYLES if style]), ("class", SHAPES)):
        folder = commands.add_parser(command, help=f"write a training folder of a {command}: {', '.join(names)}")
        folder.add_argument("name", help=", ".join(names))
        folder.add_argument("folder", type=Path)
        folder.add_argument("--count", type=int, help="how many pictures")
        folder.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
