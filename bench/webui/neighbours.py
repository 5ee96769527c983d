"""Beside other extensions: ``python -m bench.webui.neighbours --webui DIR --python PYTHON --checkpoint FILE --extensions DIR``.

A bare WebUI trains a LoRA with previews and a DreamBooth checkpoint with class images. Then each extension that lies in ``--extensions``
stands beside Finetune, alone and all together; the person makes images with the extension switched on before, during and after the same
trainings. Prints a table of what was equal; an extension that is not there, or does not load, is left out with the reason.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from bench.webui.browser import browser_at
from bench.webui.checks import tab_stands_before_settings
from bench.webui.files import draw, pixels, tensors
from bench.webui.webui import WebUI
from bench.webui.world import PROMPT, LeftOut, World

_STEPS, _SHORT = 12, 6
_IMAGE = {"seed": 1, "steps": 4, "width": 128, "height": 128, "sampler_name": "Euler"}
_LORA, _WORN = "neighbour", "worn"
"""Names of the LoRA that is trained, also of its file that an extension finds in its own folder, and of one that the person's prompt wears."""
_EQUAL, _LEFT_OUT = "equal", "left out"
_ANY_IMAGE = "an image"
"""Stands for the content of an image among the values of an extension's controls."""
_FAILURE = re.compile(r"\*\*\* Error.*?^---$", re.MULTILINE | re.DOTALL)
"""What the WebUI writes when a script fails while it loads, draws its controls or has its part in an image."""


@dataclass(frozen=True)
class Neighbour:
    """An extension, and how a person switches it on.

    Attributes:
        folder: its name below ``extensions/``.
        controls: title of a script → label of a control → value; one that ends with * is the first choice that begins so.
        units: title of a script → all its values, where its controls have no labels.
        prompt: more words of the prompt.
        prompt_without: more words of the prompt of the image without the extension, for one that is switched on by its default.
        lora_folder: where it looks for LoRA files, below its own folder.
    """

    folder: str
    controls: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    units: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    prompt: str = ""
    prompt_without: str | None = None
    lora_folder: str = ""


NEIGHBOURS = (
    Neighbour("sd-webui-cd-tuner", {"CD Tuner": {"CD Tuner": True, "Detail(d1)": 5.0, "Contrast(con1)": 5.0, "Cyan-Red(col1)": 5.0}}),
    Neighbour("sd-webui-vectorscope-cc", {"Vectorscope CC": {"Enable": True, "Alt. (Stronger Effects)": True, "Brightness": 3.0}}),
    Neighbour("sd-webui-incantations", {"Incantations": {"Active": True, "SEG Blur Sigma": 11.0}}),
    Neighbour(
        "sd-webui-additional-networks",
        {"Additional networks for generating": {"Enable": True, "Model 1": f"{_LORA}*"}},
        lora_folder="models/lora",
    ),
    Neighbour("sd-webui-regional-prompter", {"Regional Prompter": {"Regional Prompter": True}}, prompt=" BREAK a red car"),
    Neighbour("sd-webui-negpip", {"NegPiP": {"NegPiP": True}}, prompt=", (a red car:-1.0)"),
    Neighbour(
        "sd-webui-lora-block-weight",
        {"LoRA Block Weight": {"LoRA Block Weight": True}},
        prompt=f" <lora:{_WORN}:1:lbw=OUTALL>",
        prompt_without=f" <lora:{_WORN}:1>",
    ),
    Neighbour("sd-webui-freeu", {"FreeU": {"Enable": True}}),
    Neighbour("sd-dynamic-thresholding", {"Dynamic Thresholding (CFG Scale Fix)": {"Enable Dynamic Thresholding (CFG Scale Fix)": True}}),
    Neighbour(
        "multidiffusion-upscaler-for-automatic1111",
        {"Tiled Diffusion": {"Enable Tiled Diffusion": True, "Latent tile width": 8, "Latent tile height": 8, "Latent tile overlap": 4}},
    ),
    Neighbour("sd-webui-supermerger"),
    Neighbour("sd-webui-controlnet", units={"ControlNet": [{"enabled": True, "module": "reference_only", "image": _ANY_IMAGE}]}),
)


def always_on(scripts: Sequence[Mapping[str, Any]], neighbour: Neighbour, image: str = "") -> dict[str, Any]:
    """``alwayson_scripts`` of a txt2img request in which the extension is switched on.

    Args:
        scripts: as ``/sdapi/v1/script-info`` gives them.
        image: in base64, for an extension that asks for one.

    Raises:
        KeyError: a script or a control does not exist; the message names those that do.
    """
    result: dict[str, Any] = {
        title: {"args": [{name: image if value == _ANY_IMAGE else value for name, value in unit.items()} for unit in units]}
        for title, units in neighbour.units.items()
    }
    for title, wanted in neighbour.controls.items():
        script = next((each for each in scripts if each["name"] == title.lower() and not each["is_img2img"]), None)
        if script is None:
            raise KeyError(f"{neighbour.folder} has no script {title}: {sorted({each['name'] for each in scripts})}")
        values = [control["value"] for control in script["args"]]
        for label, value in wanted.items():
            place = next((place for place, control in enumerate(script["args"]) if control["label"] == label), None)
            if place is None:
                raise KeyError(f"{title} has no control {label}: {[control['label'] for control in script['args']]}")
            values[place] = _chosen(script["args"][place].get("choices") or (), value)
        result[title] = {"args": values}
    return result


def _chosen(choices: Sequence[Any], value: Any) -> Any:
    if not (isinstance(value, str) and value.endswith("*")):
        return value
    return next(choice for choice in choices if str(choice).startswith(value[:-1]))


def failure_of(neighbours: Sequence[Neighbour], log: str) -> str | None:
    """The first error in the WebUI's log that goes through files of one of the extensions, in a line; None without any."""
    for failure in _FAILURE.findall(log):
        for neighbour in neighbours:
            if f"extensions/{neighbour.folder}/" in failure:
                return f"{neighbour.folder}: {[line.strip() for line in failure.splitlines() if line.strip()][-2]}"
    return None


@dataclass
class Results:
    """What trainings left: tensors of the files, pixels of previews, class images and of the person's images.

    Attributes:
        switched_on: the person's image differs from the one without the extension.
        failure: an error that the extension raised after it was loaded.
        after_plain: the person's image right after one without the extension, before any training: some extensions carry something over.
        at_rest: folders of the extensions that stay off, for with the others they fail at the person's image without any training.
    """

    lora: Any
    dreambooth: Any
    previews: list[bytes]
    classes: list[bytes]
    person: list[bytes]
    switched_on: bool = True
    failure: str | None = None
    after_plain: bytes = b""
    at_rest: list[str] = field(default_factory=list)


def differences(bare: Results, beside: Results) -> list[str]:
    """What is not equal, in words."""
    named = {"LoRA": "lora", "DreamBooth": "dreambooth", "previews": "previews", "class images": "classes"}
    unlike = [name for name, attribute in named.items() if getattr(bare, attribute) != getattr(beside, attribute)]
    moments = ("", "made again before a training", "during the LoRA", "after the LoRA", "during DreamBooth", "after DreamBooth")
    usual = (beside.person[0], beside.after_plain or beside.person[0])
    return unlike + [f"the person's image {moment}" for moment, image in zip(moments, beside.person, strict=True) if image not in usual]


def trained(world: World, request: dict[str, Any]) -> Results:
    """Make the trainings, with the person's image at six moments.

    Raises:
        AssertionError: a run fails, or the WebUI was not given back as it was.
    """

    def image() -> bytes:
        return pixels(world.webui.raw_picture(request))

    person = [image(), image()]
    world.train(_LORA, _STEPS, preview_every="6")
    world.await_step(_LORA, 2)
    person.append(image())
    log = world.await_end(_LORA)["log"]
    person.append(image())
    whole = {"method": "dreambooth", "optimizer_unet_rate": "1e-3", "trigger": "sks", "data_class_count": "2"}
    world.train("whole", _SHORT, **whole)
    world.await_step("whole", 2)
    person.append(image())
    log += world.await_end("whole")["log"]
    person.append(image())
    assert sum("exactly as it was" in line for line in log) == 2, "\n".join(log)
    hidden = world.webui.data / ".finetune"
    previews = sorted((hidden / "runs").glob("*/previews/*/*.png"))
    classes = sorted((hidden / "classes").glob("*/*.png"))
    assert previews and classes, f"{len(previews)} previews and {len(classes)} class images lie below {hidden}"
    return Results(
        tensors(world.file(_LORA))[1],
        tensors(world.webui.data / "models" / "Stable-diffusion" / "whole.safetensors")[1],
        [pixels(path.read_bytes()) for path in previews],
        [pixels(path.read_bytes()) for path in classes],
        person,
    )


def beside(given: argparse.Namespace, neighbours: Sequence[Neighbour], data: Path, lora: Path | None = None) -> Results:
    """What trainings left in a WebUI with these extensions.

    Args:
        data: its data folder, which is made.
        lora: a LoRA file for the person's images.

    Raises:
        LeftOut: an extension does not load.
        AssertionError, KeyError, RuntimeError: the tab, an extension's controls or a training do not work; the message says which.
    """
    webui = WebUI(given.webui.absolute(), given.python.absolute(), data, given.port, given.flags.split())
    webui.prepare([given.checkpoint])
    (data / "ui-config.json").write_text("{}", encoding="utf-8")  # sd-webui-negpip opens it as it loads; one that was started before has it
    if lora:
        shutil.copyfile(lora, webui.lora / f"{_WORN}.safetensors")
    for neighbour in neighbours:
        target = data / "extensions" / neighbour.folder
        shutil.copytree(given.extensions / neighbour.folder, target, ignore=shutil.ignore_patterns(".git"))
        if neighbour.lora_folder and lora:
            (target / neighbour.lora_folder).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(lora, target / neighbour.lora_folder / f"{_LORA}.safetensors")
    print(f"log and files: {data}", flush=True)
    try:
        webui.start()
        world = World(webui, draw(data / "pictures"), _STEPS)
        _look_at_the_tab(world)
        failure = failure_of(neighbours, _log(webui))
        if failure:
            raise LeftOut(f"it does not load: {failure}")
        # The WebUI keeps the encoded prompt of the last image and does not know that an extension patches the text encoder: with
        # additional-networks a person's images then depend on those between them, whoever made them.
        webui.ask("/sdapi/v1/options", {"persistent_cond_cache": False})
        request, plain, at_rest = _request(webui, neighbours, base64.b64encode((world.pictures / "0.png").read_bytes()).decode())
        webui.raw_picture({**request, "alwayson_scripts": {}})
        after_plain = pixels(webui.raw_picture(request))
        results = trained(world, request)
        return replace(
            results,
            switched_on=results.person[0] != plain,
            after_plain=after_plain,
            at_rest=at_rest,
            failure=failure_of(switched(neighbours, at_rest), _log(webui)),
        )
    finally:
        webui.kill()


def _request(webui: WebUI, neighbours: Sequence[Neighbour], image: str) -> tuple[dict[str, Any], bytes, list[str]]:
    """The person's request with as many extensions switched on as the WebUI can make an image with, before anything is trained.

    Extensions fail with one another, too. The one in whose files the last failure is then stays installed and is switched off.

    Returns:
        The request, the pixels of the image without the extensions, and the folders of those that stay off.

    Raises:
        LeftOut: the image cannot be made, and no extension is left that could be switched off.
    """
    scripts = webui.ask("/sdapi/v1/script-info")
    at_rest: list[str] = []
    while True:
        on = switched(neighbours, at_rest)
        request: dict[str, Any] = {**_IMAGE, "prompt": PROMPT + "".join(neighbour.prompt for neighbour in on)}
        without = (neighbour.prompt if neighbour.prompt_without is None else neighbour.prompt_without for neighbour in on)
        plain = pixels(webui.raw_picture({**request, "prompt": PROMPT + "".join(without)}))
        request["alwayson_scripts"] = {title: values for each in on for title, values in always_on(scripts, each, image).items()}
        try:
            webui.raw_picture(request)
        except HTTPError as error:
            culprit = last_in(on, _log(webui))
            if culprit is None or len(on) == 1:
                raise LeftOut(f"the person's image cannot be made with it, before a training: {error}") from error
            at_rest.append(culprit)
            continue
        return request, plain, at_rest


def switched(neighbours: Sequence[Neighbour], at_rest: Sequence[str]) -> list[Neighbour]:
    """Those that are switched on."""
    return [each for each in neighbours if each.folder not in at_rest]


def last_in(neighbours: Sequence[Neighbour], log: str) -> str | None:
    """The folder of the extension that the WebUI's log names last; None where it names none."""
    places = {each.folder: log.rfind(f"extensions/{each.folder}/") for each in neighbours}
    folder = max(places, key=places.__getitem__, default=None)
    return folder if folder is not None and places[folder] >= 0 else None


def _log(webui: WebUI) -> str:
    return webui.log.read_text(encoding="utf-8", errors="replace")


def _look_at_the_tab(world: World) -> None:
    world.browser = browser_at(world.webui.port, world.webui.data / "tmp" / "browser")
    if world.browser is not None:
        try:
            tab_stands_before_settings(world)
        finally:
            world.browser.close()
            world.browser = None


def main(given: Sequence[str] | None = None) -> int:
    """Print a row for each extension and for all together; 1 when something is not equal."""
    wanted = _arguments(given)
    chosen = [each for each in NEIGHBOURS if not wanted.only or each.folder in wanted.only]
    there = [each for each in chosen if (wanted.extensions / each.folder).is_dir()]
    scratch = Path(tempfile.mkdtemp(prefix="finetune-neighbours-"))
    bare = beside(wanted, (), scratch / "bare")
    rows = [(each.folder, f"{_LEFT_OUT}: it does not lie in the folder of extensions") for each in chosen if each not in there]
    if not wanted.together:
        for each in list(there):
            rows.append((each.folder, _outcome(wanted, [each], bare, scratch / each.folder)))
            if rows[-1][1].startswith(_LEFT_OUT):
                there.remove(each)
    if len(there) > 1:
        rows.append((f"all {len(there)} together", _outcome(wanted, there, bare, scratch / "together")))
    print("\n| beside | LoRA, DreamBooth, previews, class images, six images of the person |\n| --- | --- |")
    print("\n".join(f"| {name} | {outcome} |" for name, outcome in rows), flush=True)
    if wanted.json:
        wanted.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return 0 if all(outcome.startswith((_EQUAL, _LEFT_OUT)) for _, outcome in rows) else 1


def _outcome(wanted: argparse.Namespace, together: Sequence[Neighbour], bare: Results, data: Path) -> str:
    """In words: equal, left out, or what is not equal or does not work."""
    try:
        results = beside(wanted, together, data, data.parent / "bare" / "my-loras" / f"{_LORA}.safetensors")
        outcome = "; ".join(differences(bare, results)) or _EQUAL
        if not results.switched_on and any(each.controls or each.units for each in together):
            outcome += " (it changes nothing in the person's image)"
        if results.after_plain not in (b"", results.person[0]):
            outcome += " (without a training, too, the person's image differs when one without the extension was made before it)"
        if results.at_rest:
            outcome += f" (installed and switched off, for with the others they fail without a training: {', '.join(results.at_rest)})"
        if results.failure:
            outcome += f" (it failed: {results.failure})"
    except LeftOut as reason:
        outcome = f"{_LEFT_OUT}: {reason}"
    except Exception as error:  # noqa: BLE001  the other extensions still have their turn
        outcome = f"{type(error).__name__}: {error}"[:600]
    print(f"{' + '.join(each.folder for each in together)}: {outcome}", flush=True)
    return outcome


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench.webui.neighbours", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, text in (
        ("webui", "folder of the WebUI 1.10.1"), ("python", "Python of its environment"), ("checkpoint", "checkpoint to train on"),
        ("extensions", "folder that holds the other extensions"),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=Path, required=True, help=text)
    parser.add_argument("--port", type=int, default=7896)
    parser.add_argument("--flags", default="", help="more arguments for the WebUI, as one")
    parser.add_argument("--only", nargs="*", help="folders of the extensions to try")
    parser.add_argument("--together", action="store_true", help="all at once only, not each alone")
    parser.add_argument("--json", type=Path, help="file for the rows")
    return parser.parse_args(given)


if __name__ == "__main__":
    sys.exit(main())
