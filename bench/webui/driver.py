"""Checks the extension in a real WebUI 1.10.1: ``python -m bench.webui.driver --webui DIR --python VENV_PYTHON --checkpoint FILE``.

Runs on the standard library; with playwright and Chromium at hand it also looks at the page. A checkpoint may have its
``.yaml`` beside it, so that a tiny one will do.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.webui.browser import browser_at
from bench.webui.checks import CHECKS
from bench.webui.files import draw
from bench.webui.webui import WebUI
from bench.webui.world import LeftOut, World


def main(given: Sequence[str] | None = None) -> int:
    """Run the checks and print a line for each; 1 when one does not hold."""
    wanted = _arguments(given)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the WebUI ends with us
    data = (wanted.scratch or Path(tempfile.mkdtemp(prefix="finetune-webui-"))).absolute()
    checkpoints = [wanted.checkpoint, *([wanted.other] if wanted.other else [])]
    webui = WebUI(wanted.webui.absolute(), wanted.python.absolute(), data, wanted.port, wanted.flags.split())
    webui.prepare(checkpoints)
    world = World(webui, draw(data / "pictures"), wanted.steps, screenshots=wanted.screenshots, checkpoint=wanted.checkpoint.name)
    world.other = wanted.other and wanted.other.name
    print(f"log and files: {data}", flush=True)
    try:
        world.notes["start_s"] = webui.start()
        world.browser = browser_at(webui.port, webui.data / "tmp" / "browser")
        results = [_run(check, world) for check in CHECKS if not wanted.only or check.__name__ in wanted.only]
    finally:
        if world.browser is not None:
            world.browser.close()
        webui.kill()
    failed = results.count("FAIL")
    print(f"{results.count('ok')} ok, {failed} FAIL, {results.count('left out')} left out", flush=True)
    return 1 if failed else 0


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.webui.driver", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--webui", type=Path, required=True, help="folder of the WebUI 1.10.1")
    parser.add_argument("--python", type=Path, required=True, help="Python of its environment")
    parser.add_argument("--checkpoint", type=Path, required=True, help="checkpoint to train on")
    parser.add_argument("--other", type=Path, help="another one, to switch to while training")
    parser.add_argument("--port", type=int, default=7890)
    parser.add_argument("--steps", type=int, default=100, help="of the long runs")
    parser.add_argument("--flags", default="", help="more arguments for the WebUI, as one: --flags='--medvram --opt-sdp-attention'")
    parser.add_argument("--scratch", type=Path, help="data folder to use and keep; without it a new one is made")
    parser.add_argument("--screenshots", type=Path, help="folder for images of the tab")
    parser.add_argument("--only", nargs="*", help="names of checks to run (later ones may need earlier ones)")
    return parser.parse_args(given)


def _run(check: Callable[[World], str], world: World) -> str:
    begin = time.monotonic()
    try:
        said, result = check(world), "ok"
    except LeftOut as reason:
        said, result = str(reason), "left out"
    except Exception as error:  # noqa: BLE001  the other checks still have something to tell
        said, result = f"{type(error).__name__}: {error}"[:1000], "FAIL"
        if not isinstance(error, AssertionError):
            with (world.webui.data / "driver-errors.txt").open("a", encoding="utf-8") as file:
                traceback.print_exc(file=file)
    print(f"{result:8}  {time.monotonic() - begin:6.1f} s  {check.__name__.replace('_', ' '):32}  {said}", flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
