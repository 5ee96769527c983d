"""Composition root of the bench: ``python -m bench {quickstart,ui,nano,speed,memory,operations,acceptance,gpu,gpus,mutants} ...``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from lib_finetune import console
from lib_finetune.__main__ import reproducible_matrix_products
from lib_finetune.errors import FinetuneError, InputError

Tool = Callable[[Sequence[str]], int]
"""Arguments after the tool's name → exit code."""


def quickstart(arguments: Sequence[str]) -> int:
    """Train the sample LoRA."""
    from bench import quickstart

    return quickstart.main(arguments)


def ui(arguments: Sequence[str]) -> int:
    """Serve the tab without the WebUI, with the small checkpoint unless another is named."""
    from bench.quickstart import sample_checkpoint
    from lib_finetune import cli
    from lib_finetune.__main__ import page

    parser = argparse.ArgumentParser(
        prog="python -m bench ui",
        description="Serve the tab without the WebUI. Without --checkpoint, it has the small checkpoint.",
        allow_abbrev=False,  # as quickstart.py, which has to know a path when it sees one
    )
    cli.add_page_arguments(parser)
    options = parser.parse_args(arguments)
    options.checkpoint = options.checkpoint or sample_checkpoint(options.output_root.resolve())
    return page(options)


def nano(arguments: Sequence[str]) -> int:
    """A command of the drawn world."""
    from bench.nano import command

    return command.main(arguments, train_file)


def speed(arguments: Sequence[str]) -> int:
    """Time a training beside a bare loop."""
    from bench import speed

    return speed.main(arguments)


def memory(arguments: Sequence[str]) -> int:
    """Count the bytes of a training step."""
    from bench import memory

    return memory.main(arguments)


def operations(arguments: Sequence[str]) -> int:
    """Count what a training step dispatches."""
    from bench import operations

    return operations.main(arguments)


def gpus(arguments: Sequence[str]) -> int:
    """Which GPU can do which method."""
    from bench import gpu_table

    return gpu_table.main(arguments)


def acceptance(arguments: Sequence[str]) -> int:
    """Prove on this machine that the three methods work."""
    from bench import acceptance

    return acceptance.main(arguments)


def gpu(arguments: Sequence[str]) -> int:
    """Try on a device what only a device can show."""
    from bench.gpu import command

    return command.main(arguments)


def mutants(arguments: Sequence[str]) -> int:
    """Put small faults into the package."""
    from bench import mutants

    return mutants.main(arguments)


TOOLS: dict[str, tuple[Tool, str]] = {
    "quickstart": (quickstart, "train a LoRA on sample images and show what it learned"),
    "ui": (ui, "the tab in a browser without the WebUI, with the small checkpoint"),
    "nano": (nano, "the drawn world: install, subject, style, class, measure, train"),
    "speed": (speed, "time and memory of a training beside a bare loop"),
    "memory": (memory, "memory of a training step, by counting bytes"),
    "operations": (operations, "operations of a training step, counted without a GPU"),
    "acceptance": (acceptance, "the three methods on one's own machine: a table and a grid to send in"),
    "gpu": (gpu, "what only a device can show: a table of checks and figures in ten minutes"),
    "gpus": (gpus, "which GPU can do which method, computed by the memory model"),
    "mutants": (mutants, "small faults put into the package, to see whether the tests notice"),
}


def train_file(checkpoint: Path, root: Path, values: list[tuple[str, str]]) -> Path:
    """Train with settings by dotted name; returns the finished file, which lies under ``root``/models.

    Raises:
        HostError: the training ended without a file.
    """
    from lib_finetune import cli
    from lib_finetune.__main__ import open_host
    from lib_finetune.config import codec
    from lib_finetune.config.settings import Settings
    from lib_finetune.errors import HostError

    settings = codec.with_values(Settings(), values)
    cli.refuse_wrong_input(settings, checkpoint)
    result = cli.train_on(open_host(checkpoint, root, settings.training.precision), settings)
    if result.file is None:
        raise HostError("The training ended without a file.")
    return result.file


def main(arguments: Sequence[str]) -> int:
    """Run one tool; a mistake in the input is one message and exit code 2, a failure exit code 1."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measurements, and what drives Finetune from outside. Each tool has its own --help.\n\n"
        + "\n".join(f"  {name:12}{summary}" for name, (_, summary) in TOOLS.items())
        + "\n\nThe drivers, which need no library of ours: python -m bench.webui.driver, bench.webui.guarded, bench.webui.localized, "
        "bench.page.driver, bench.page.screenshots.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    console.take_all_letters()
    parser.add_argument("tool", choices=TOOLS)
    tool, _ = TOOLS[parser.parse_args(arguments[:1]).tool]
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        return tool(arguments[1:])
    except InputError as error:
        print("\n".join(f"error: {problem}" for problem in error.problems), file=sys.stderr)
        return 2
    except FinetuneError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 1


if __name__ == "__main__":
    reproducible_matrix_products()
    sys.exit(main(sys.argv[1:]))
