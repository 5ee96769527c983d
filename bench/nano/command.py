"""The command line of the drawn world: ``python -m bench nano {install,subject,style,class,measure,words,train} ...``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lib_finetune.errors import InputError, Problem

from . import checkpoint, folders, judge, words
from .install import install
from .presets import PRESETS, preset
from .shapes import SHAPES
from .world import STYLES, SUBJECTS

Train = Callable[[Path, Path, list[tuple[str, str]]], Path]
"""(checkpoint, output root, settings by dotted name) → the finished file; given by the composition root."""

_DEFAULT_COUNTS = {"subject": 8, "style": 10, "class": 100}


def main(arguments: Sequence[str], train: Train) -> int:
    """Run one command; returns the exit code.

    Raises:
        InputError: all problems with the input at once.
        FinetuneError: a training failed, or a file is missing.
    """
    if arguments[:1] == ["train"]:
        from .train import main as train_nano

        return train_nano(arguments[1:])
    print(_run(_parser().parse_args(arguments), train))
    return 0


def _run(options: argparse.Namespace, train: Train) -> str:
    if options.command == "measure":
        return _measure(options, train)
    if options.command == "words":
        predict = words.predictor(options.checkpoint)
        return words.table({each: words.shares(predict, options.word, each) for each in options.class_word})
    if options.command == "install":
        return f"{install(options.webui, options.checkpoint)} is installed: refresh the WebUI's list of checkpoints and choose it."
    count = options.count or _DEFAULT_COUNTS[options.command]
    if options.command == "class":
        scenes = folders.write_class(options.folder, options.name, count=count, seed=options.seed)
    elif options.command == "style":
        scenes = folders.write_style(options.folder, options.name, count=count, seed=options.seed)
    else:
        scenes = folders.write_subject(options.folder, options.name, count=count, seed=options.seed)
    return f"{options.folder}: {len(scenes)} pictures with captions"


def _measure(options: argparse.Namespace, train: Train) -> str:
    from lib_finetune.export.picture import write_png

    from . import comparison

    kind = "subject" if options.subject else "style"
    options.identifier = options.identifier or (_NEW_WORD if options.method in _TEACH_WORDS else folders.IDENTIFIER)
    task = comparison.Task(
        kind,
        options.subject or options.style,
        options.checkpoint,
        options.second,
        options.identifier,
        options.weight,
        options.count,
        options.sampling_steps,
        options.guidance,
        options.seed,
    )
    _refuse(options)
    by = judge.load(options.judge)
    files: list[Path] = options.file
    seconds: list[float | None] = [None] * len(files)
    if not files:
        start = time.monotonic()
        files = [train(task.checkpoint, options.out, _training(options, task.kind, task.name))]
        seconds = [time.monotonic() - start]
    before, *after = comparison.painters(task, files, _say)
    results = [
        comparison.measured(file, took, comparison.figures(task, before, paint, by, file))
        for file, took, paint in zip(files, seconds, after, strict=True)
    ]
    stem = options.out / f"measure-{task.name}"
    comparison.write_json(stem.with_suffix(".json"), task, results)
    write_png(stem.with_suffix(".png"), comparison.grid(task, [before, *after], ["base", *(file.stem for file in files)]))
    return f"{comparison.table(results)}\n\n{stem}.json\n{stem}.png"


def _refuse(options: argparse.Namespace) -> None:
    """Find wrong input before minutes are spent.

    Raises:
        InputError: all problems at once.
    """
    from . import trained

    problems: list[Problem] = []
    if options.file and (options.method or options.set or options.class_pictures):
        problems.append(Problem("--file", "the files are measured as they are; leave out --method, --set and --class-pictures."))
    if options.count < 1:
        problems.append(Problem("--count", f"{options.count} is too few; 50 give an interval of about ±0.1."))
    for name in ("checkpoint", "second"):
        path = getattr(options, name)
        if path is not None and not path.is_file():
            problems.append(Problem(f"--{name}", f"{path} does not exist."))
    for path in options.file:
        try:
            trained.read(path)
        except InputError as error:
            problems += error.problems
    problems += [Problem("--set", f"{text!r} has no '='. Write section.field=value.") for text in options.set if "=" not in text]
    if problems:
        raise InputError(problems)


_TEACH_WORDS = ("textual_inversion", "pivotal_tuning")
_NEW_WORD = "zxq"
"""Two tokens: an embedding may not take the name of a word that the vocabulary has."""


def _training(options: argparse.Namespace, kind: str, name: str) -> list[tuple[str, str]]:
    """Write the training pictures and give the settings of the training."""
    method = options.method or "lora"
    # A word that is learned is the file's name, which therefore is the word of the captions.
    title = options.identifier if method in _TEACH_WORDS else f"nano-{name}-{method}"
    values = {"method": method, "name": title, **preset(method), "training.seed": str(options.seed)}
    pictures = options.out / "pictures" / name
    values["data.images"] = str(pictures)
    values["data.trigger"] = options.identifier
    if kind == "style":
        folders.write_style(pictures, name, identifier=options.identifier, seed=options.seed)
    else:
        folders.write_subject(pictures, name, identifier=options.identifier, seed=options.seed)
        shape = values["data.class_word"] = SUBJECTS[name].shape
        if options.class_pictures:
            values["data.class_images"] = str(options.out / "class" / shape)
            folders.write_class(Path(values["data.class_images"]), shape, count=options.class_pictures, seed=options.seed)
    values |= {key.strip(): value for key, _, value in (text.partition("=") for text in options.set)}
    return list(values.items())


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench nano", description="The drawn world and its small SD1.5 checkpoint.")
    commands = parser.add_subparsers(dest="command", required=True)
    to_webui = commands.add_parser("install", help="put the nano checkpoint into a WebUI")
    to_webui.add_argument("--webui", type=Path, required=True, help="the WebUI's folder (or its data folder): the one that holds 'models'")
    to_webui.add_argument("--checkpoint", type=Path, default=checkpoint.FILE, help="another nano checkpoint than the one of the project")
    styles = [style for style in STYLES if style]
    for command, names in (("subject", SUBJECTS), ("style", styles), ("class", SHAPES)):
        folder = commands.add_parser(command, help=f"write a training folder of a {command}: {', '.join(names)}")
        folder.add_argument("name", help=", ".join(names))
        folder.add_argument("folder", type=Path)
        folder.add_argument("--count", type=int, help="how many pictures")
        folder.add_argument("--seed", type=int, default=0)
    commands.add_parser("train", help="make the small checkpoint and the judge from nothing (train --help)")
    strength = commands.add_parser("words", help=f"how much words change the prediction, as a share of what {words.KNOWN!r} changes")
    strength.add_argument("word", nargs="+")
    strength.add_argument("--class-word", nargs="+", choices=SHAPES, default=list(SHAPES)[:2])
    strength.add_argument("--checkpoint", type=Path, default=checkpoint.FILE)
    _measure_arguments(commands.add_parser("measure", help="train on a subject or style, or take files, and say how good they are"), styles)
    return parser


def _measure_arguments(parser: argparse.ArgumentParser, styles: Sequence[str]) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--subject", choices=SUBJECTS)
    what.add_argument("--style", choices=styles)
    parser.add_argument("--method", choices=PRESETS, help="what is trained (lora) when no --file is given")
    parser.add_argument("--set", action="append", default=[], metavar="section.field=value", help="a setting of the training")
    parser.add_argument("--class-pictures", type=int, default=0, metavar="N", help="train with so many class pictures (prior preservation)")
    parser.add_argument(
        "--file", action="append", default=[], type=Path, help="LoRA, checkpoint or embedding of any trainer, measured instead; may repeat"
    )
    parser.add_argument("--weight", type=float, default=1.0, help="of LoRA files")
    parser.add_argument(
        "--identifier", help=f"the word in prompts that calls what was trained ({folders.IDENTIFIER}; where a word is learned {_NEW_WORD})"
    )
    parser.add_argument("--checkpoint", type=Path, default=checkpoint.FILE, help="what is trained on, or was")
    parser.add_argument("--second", type=Path, metavar="FILE", help="another checkpoint to try the result on (portability)")
    parser.add_argument("--count", type=int, default=50, help="pictures behind each figure")
    parser.add_argument("--sampling-steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=6.0)
    parser.add_argument("--seed", type=int, default=0, help="of the training pictures and the training")
    parser.add_argument("--judge", type=Path, default=judge.FILE, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path("nano-output"), help="folder for pictures, file, table and grid")
