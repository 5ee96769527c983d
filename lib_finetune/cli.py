"""The command line: train, generate, describe, ui, doctor. Exit codes: 0 done, 2 wrong input, 1 failure."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lib_finetune import console
from lib_finetune.config import codec
from lib_finetune.config.describe import describe
from lib_finetune.config.places import with_absolute_places
from lib_finetune.config.settings import METHODS, Settings
from lib_finetune.errors import FinetuneError, InputError, Problem, denied_in_words
from lib_finetune.ports.null import NullSink

PREDICTIONS = ("epsilon", "v_prediction")
_FLAGS = {
    "images": "data.images",
    "name": "name",
    "trigger": "data.trigger",
    "class_word": "data.class_word",
    "steps": "training.steps",
    "resolution": "data.resolution",
    "class_images": "data.class_count",
    "class_dir": "data.class_images",
    "vectors": "embedding.vectors",
    "init_words": "embedding.init",
    "template": "embedding.template",
}
OpenHost = Callable[..., Any]
Commands = Mapping[str, Callable[[argparse.Namespace], int]]


def main(arguments: Sequence[str], open_host: OpenHost, commands: Commands | None = None) -> int:
    """Run a command; returns the exit code.

    Args:
        open_host: (checkpoint file, output root, precision, prediction or None) → host.
        commands: further commands by name, given by the composition root.
    """
    console.take_all_letters()
    parser = _parser()
    options = parser.parse_args(list(arguments))
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    known: dict[str, Callable[[argparse.Namespace], int]] = {
        "train": lambda options: _train(options, open_host),
        "generate": lambda options: _generate(options, open_host),
        "describe": _describe,
        **(commands or {}),
    }
    try:
        code = known[options.command](options)
        sys.stdout.flush()
        return code
    except InputError as error:
        print("\n".join(f"error: {problem}" for problem in error.problems), file=sys.stderr)
        return 2
    except FinetuneError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted.", file=sys.stderr)
        return 1
    except PermissionError as error:
        print(f"failed: {denied_in_words(error)}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # who reads has enough, as in `describe | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at its end
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lib_finetune", description="Train Stable Diffusion 1.5 without the WebUI.")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train from a folder of images")
    train.add_argument("method", choices=[name.replace("_", "-") for name in METHODS])
    train.add_argument(
        "--checkpoint", required=True, type=Path, metavar="FILE", help="Stable Diffusion 1.x checkpoint, .safetensors or .ckpt"
    )
    train.add_argument("--images", metavar="DIR", help="folder with the images")
    train.add_argument("--name", metavar="NAME", help="name of the result")
    train.add_argument("--trigger", metavar="WORD")
    train.add_argument("--class-word", metavar="WORD")
    train.add_argument("--steps", metavar="N")
    train.add_argument("--resolution", metavar="PX")
    train.add_argument("--class-images", metavar="N", help="make so many class images and keep the class by them")
    train.add_argument("--class-dir", metavar="DIR", help="folder with class images of your own")
    train.add_argument("--vectors", metavar="N", help="textual-inversion, pivotal-tuning: tokens that the word takes")
    train.add_argument("--init-words", metavar="TEXT", help="the same: words, or an embedding file, that it begins with")
    train.add_argument("--template", metavar="subject|drawn|style|FILE", help="the same: captions to use instead of text files")
    train.add_argument("--output-root", type=Path, default=Path(), metavar="DIR", help="the result goes to DIR/models/… or DIR/embeddings")
    train.add_argument("--config", type=Path, metavar="FILE", help="settings as .toml or .json")
    train.add_argument("--set", action="append", default=[], metavar="section.field=value", help="any setting; see describe")
    train.add_argument("--continue", dest="resume", action="store_true", help="resume from the last saved state of this name")
    generate = commands.add_parser("generate", help="make an image")
    generate.add_argument("--checkpoint", required=True, type=Path, metavar="FILE")
    generate.add_argument("--prompt", required=True, metavar="TEXT")
    generate.add_argument("--negative-prompt", default="", metavar="TEXT")
    generate.add_argument("--lora", action="append", default=[], metavar="FILE:WEIGHT")
    generate.add_argument(
        "--embedding", action="append", default=[], type=Path, metavar="FILE", help="its file name is a word of the prompt"
    )
    generate.add_argument("--seed", type=int, default=1, metavar="N")
    generate.add_argument("--steps", type=int, default=20, metavar="N")
    generate.add_argument("--guidance", type=float, default=7.0, metavar="SCALE")
    generate.add_argument(
        "--clip-skip", type=int, metavar="N", help="layer of the text encoder that is read, from the end; without it, what the files tell"
    )
    generate.add_argument("--size", default="512x512", metavar="WxH")
    generate.add_argument("--out", required=True, type=Path, metavar="FILE.png")
    commands.add_parser("describe", help="print the reference of all settings")
    for command in (train, generate):
        _add_prediction(command)
    add_page_arguments(commands.add_parser("ui", help="the tab in a browser, without the WebUI"))
    doctor = commands.add_parser("doctor", help="what is in the way of training on this machine, and the report for an issue")
    doctor.add_argument("--checkpoint", type=Path, metavar="FILE", help="the checkpoint that you want to train on")
    doctor.add_argument("--output-root", type=Path, default=Path("finetune-output"), metavar="DIR", help="where results go")
    _add_prediction(doctor)
    return parser


def add_page_arguments(parser: argparse.ArgumentParser) -> None:
    """What the page without the WebUI is served with."""
    parser.add_argument("--port", type=int, default=7862, metavar="P")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="Stable Diffusion 1.x checkpoint, .safetensors or .ckpt")
    parser.add_argument(
        "--output-root", type=Path, default=Path("finetune-output"), metavar="DIR", help="results and Finetune's own folder"
    )
    _add_prediction(parser)


def _add_prediction(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prediction",
        choices=PREDICTIONS,
        help="what the checkpoint predicts, where neither the file nor the .yaml beside it tells; without it, epsilon",
    )


def settings_of(options: argparse.Namespace) -> Settings:
    """Settings from file, then flags, then ``--set``.

    Raises:
        InputError: every unknown name and unreadable value at once.
    """
    settings = codec.load(options.config) if options.config else Settings()
    pairs = [(path, str(getattr(options, flag))) for flag, path in _FLAGS.items() if getattr(options, flag) is not None]
    problems = []
    for text in options.set:
        path, equals, value = text.partition("=")
        if equals:
            pairs.append((path.strip(), value))
        else:
            problems.append(Problem("--set", f"{text!r} has no '='. Write section.field=value."))
    try:
        settings = codec.with_values(settings, [("method", options.method.replace("-", "_")), *pairs])
    except InputError as error:
        problems += error.problems
    if problems:
        raise InputError(problems)
    return with_absolute_places(settings)


def _train(options: argparse.Namespace, open_host: OpenHost) -> int:
    from lib_finetune.app.shared_training import root_of_process, settings_of_process
    from lib_finetune.host.headless.processes import launched

    settings = settings_of(options)
    refuse_wrong_input(settings, options.checkpoint)
    with launched() as processes, root_of_process(processes, options.output_root, settings.name) as root:
        settings = settings_of_process(settings, processes)
        host = open_host(options.checkpoint, root, settings.training.precision, options.prediction)
        host.processes = processes
        result = train_on(host, settings, resume=options.resume)
    if processes.rank:
        return 0
    print(f"{result.outcome}: {result.file or 'no file'}")
    if result.warning:
        print(result.warning)
    return 0


def refuse_wrong_input(settings: Settings, checkpoint: Path) -> None:
    """Check what can be checked before a checkpoint is read.

    Raises:
        InputError: every problem with settings, images and the checkpoint's path at once.
    """
    from lib_finetune.model.weights_file import refuse_absent
    from lib_finetune.preflight.problems import problems

    obstacles = problems(settings)
    try:
        refuse_absent(checkpoint, "--checkpoint", "Name a .safetensors or .ckpt file.")
    except InputError as error:
        obstacles += error.problems
    if obstacles:
        raise InputError(obstacles)


def train_on(host: Any, settings: Settings, *, resume: bool = False) -> Any:
    """Train on a host with a progress bar; returns the `runner.Result`.

    Args:
        resume: from the state that a run of the same name left behind.
    """
    from lib_finetune.jobs.end_signals import EndingControl
    from lib_finetune.jobs.folder_lock import run_lock
    from lib_finetune.jobs.leftovers import clear_all
    from lib_finetune.jobs.run_folders import make_folder, unfinished
    from lib_finetune.runs.room import WaitMinutes
    from lib_finetune.runs.runner import Runner

    left = unfinished(host, settings.name) if resume else []
    if resume and not left:
        raise InputError([Problem("--continue", f"there is no saved state of {settings.name} under {host.paths.data / 'runs'}.")])
    folder = left[0] if left else make_folder(host.paths.data, settings.name)
    clear_all(host.paths)
    sink = Console() if host.processes.rank == 0 else NullSink()
    control = EndingControl(sink.say)
    try:
        with run_lock(folder), control.listening():
            result = Runner(settings, host, folder, sink, control, WaitMinutes(control.stop_asked)).execute()
    except KeyboardInterrupt:
        raise _interrupted(folder) from None
    if control.ending and result.file is None:
        raise _interrupted(folder)
    return result


def _interrupted(folder: Path) -> FinetuneError:
    from lib_finetune.runs.folder import RunFolder

    if RunFolder(folder).resumes():
        return FinetuneError("interrupted; run the same command with --continue to resume from the last saved state.")
    return FinetuneError("interrupted before a state was saved; run the same command to begin anew.")


def _generate(options: argparse.Namespace, open_host: OpenHost) -> int:
    from lib_finetune.export.clip_skip import clip_skip_of
    from lib_finetune.export.picture import write_png
    from lib_finetune.ports.pictures import PictureRequest

    width, height = _size(options.size)
    loras = [_lora(text) for text in options.lora]
    _refuse_sampling(options)
    host = open_host(options.checkpoint, options.out.parent / ".", "auto", options.prediction)
    request = PictureRequest(
        options.prompt,
        options.negative_prompt,
        loras,
        options.embedding,
        width,
        height,
        steps=options.steps,
        guidance=options.guidance,
        seed=options.seed,
        clip_skip=options.clip_skip or clip_skip_of([*(path for path, _ in loras), *options.embedding, options.checkpoint]),
    )
    write_png(options.out, host.pictures.make(request))
    print(options.out)
    return 0


def _refuse_sampling(options: argparse.Namespace) -> None:
    problems = []
    if not 1 <= options.steps <= 150:
        problems.append(Problem("--steps", f"{options.steps} is outside 1 to 150."))
    if options.clip_skip is not None and not 1 <= options.clip_skip <= 12:
        problems.append(Problem("--clip-skip", f"{options.clip_skip} is outside 1 to 12."))
    if options.out.suffix.lower() != ".png":
        problems.append(Problem("--out", f"{options.out} does not end in .png."))
    if problems:
        raise InputError(problems)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit()) or not all(64 <= int(side) <= 2048 and int(side) % 8 == 0 for side in (width, height)):
        raise InputError([Problem("--size", f"{text!r} is not WxH with sides of 64 to 2048 px in steps of 8, for example 512x768.")])
    return int(width), int(height)


def _lora(text: str) -> tuple[Path, float]:
    path, colon, weight = text.rpartition(":")
    try:
        return (Path(path), float(weight)) if colon else (Path(text), 1.0)
    except ValueError:
        return Path(text), 1.0  # a colon of a Windows path, and no weight


def _describe(_options: argparse.Namespace) -> int:
    print(describe())
    return 0


_SPOKEN = {"cache": "encoding images", "class images": "making class images", "preview": "painting previews"}


class Console:
    """A progress bar and lines on the terminal; implements `ports.ProgressSink`."""

    _WIDTH = 30

    def __init__(self) -> None:
        self._bar = self._mute = False
        self._smooth: float | None = None
        self._rate: float | None = None

    def stage(self, name: str, done: int = 0, total: int = 0) -> None:
        """See `ProgressSink.stage`."""
        if name in _SPOKEN and total:
            self._draw(done + 1, total, _SPOKEN[name])

    def steps(self, report: Any) -> None:
        """See `ProgressSink.steps`."""
        for loss in report.losses:
            self._smooth = loss if self._smooth is None else 0.95 * self._smooth + 0.05 * loss
        rate = len(report.losses) / max(report.seconds, 1e-9)
        self._rate = rate if self._rate is None else 0.7 * self._rate + 0.3 * rate
        left = time.strftime("%H:%M:%S", time.gmtime((report.total - report.step) / self._rate))
        self._draw(report.step, report.total, f"loss {self._smooth:.4f} · {self._rate:.2f} steps/s · {left} left")

    def say(self, message: str) -> None:
        """See `ProgressSink.say`."""
        self._end_bar()
        self._print(message)

    def figure(self, name: str, step: int, value: float) -> None:
        """Curves are for the tab; a figure that turns is said."""

    def previewed(self, row: Any) -> None:
        """See `ProgressSink.previewed`."""
        self.say(f"Preview of step {row.step}: {', '.join(row.files)} in the run's folder.")

    def points(self, points: Any) -> None:
        """Files that are kept are said when they are checked."""

    def _draw(self, done: int, total: int, text: str) -> None:
        line = f"{console.bar(done / max(1, total), self._WIDTH, sys.stdout)} {done}/{total} {text}"
        if sys.stdout.isatty():
            self._print(f"\r{line}\033[K", end="")
            self._bar = True
        elif done == total or (done % max(1, total // 10) < 10 and text.startswith("loss")):
            self._print(line)

    def _end_bar(self) -> None:
        if self._bar:
            self._print("")
            self._bar = False

    def _print(self, text: str, end: str = "\n") -> None:
        """A terminal that is closed, or a pipe that nobody reads, does not end the training."""
        if self._mute:
            return
        try:
            print(text, end=end, flush=True)
        except (OSError, ValueError):
            self._mute = True
