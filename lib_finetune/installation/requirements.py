"""The one list of library versions: what install.py adds in the WebUI, what quickstart.py installs, what the tab reports.

Only the standard library is imported here, and installed packages are looked up, never imported: install.py runs
this at each start of the WebUI, and quickstart.py before any library exists.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from importlib import metadata, util

#: `host`: the WebUI 1.10.1's own pins, with what Finetune adds to them. `newest`: the newest libraries that work together.
LIBRARY_SETS = ("host", "newest")

#: Python versions with the library set that each of them gets by itself.
SET_OF_PYTHON = {(3, 10): "host", (3, 11): "host", (3, 12): "newest", (3, 13): "newest"}

#: Python versions on which a library set can be installed at all (transformers 4.30.2 has no build for 3.12, diffusers 0.42 none for 3.10).
PYTHONS_OF_SET = {"host": ((3, 10), (3, 11)), "newest": ((3, 11), (3, 12), (3, 13))}

#: The package index holds torch for Windows without CUDA; its own index has it with.
TORCH_CUDA_INDEX = {"torch==2.1.2": "https://download.pytorch.org/whl/cu121", "torch==2.13.0": "https://download.pytorch.org/whl/cu130"}

#: The WebUI's model hub client is not pinned; below this peft and diffusers cannot be imported.
OLDEST_HUB = "0.23.4"


@dataclass(frozen=True)
class AddOn:
    """A library that Finetune needs beside the WebUI's own.

    Attributes:
        name: of the distribution on the package index.
        version: the exact version that is added when none is there.
        module: top-level module, to notice a copy that was put there without pip.
        oldest, newest: the range that was run; a copy of another extension within it is as good as ours.
        needed_for: what does not work without it, in the user's words.
    """

    name: str
    version: str
    module: str
    oldest: str
    newest: str
    needed_for: str

    @property
    def pin(self) -> str:
        """As pip wants it: ``peft==0.13.2``."""
        return f"{self.name}=={self.version}"

    def was_run_with(self, version: str) -> bool:
        """Whether this version lies in the range that was run."""
        return release(self.oldest) <= release(version) <= release(self.newest)


_TRAINING = "all training"
_LYCORIS = "LoHa and LoKr"

ADD_ONS: dict[str, tuple[AddOn, ...]] = {
    "host": (
        AddOn("diffusers", "0.30.3", "diffusers", "0.29.2", "0.35.2", _TRAINING),
        AddOn("peft", "0.13.2", "peft", "0.10.0", "0.13.2", _TRAINING),
        AddOn("lycoris-lora", "3.4.0", "lycoris", "3.4.0", "4.0.0", _LYCORIS),
        AddOn("toml", "0.10.2", "toml", "0.10.2", "0.10.2", _LYCORIS),
        AddOn("prodigyopt", "1.1.2", "prodigyopt", "1.1.2", "1.1.2", "the optimizer Prodigy"),
        AddOn("lion-pytorch", "0.2.5", "lion_pytorch", "0.2.5", "0.2.5", "the optimizer Lion"),
    ),
    "newest": (
        AddOn("diffusers", "0.42.1", "diffusers", "0.42.1", "0.42.1", _TRAINING),
        AddOn("peft", "0.21.2", "peft", "0.21.2", "0.21.2", _TRAINING),
        AddOn("lycoris-lora", "4.1.3", "lycoris", "4.1.3", "4.1.3", _LYCORIS),
        AddOn("toml", "0.10.2", "toml", "0.10.2", "0.10.2", _LYCORIS),
        AddOn("prodigyopt", "1.1.2", "prodigyopt", "1.1.2", "1.1.2", "the optimizer Prodigy"),
        AddOn("lion-pytorch", "0.2.5", "lion_pytorch", "0.2.5", "0.2.5", "the optimizer Lion"),
    ),
}

_BASE: dict[str, tuple[str, ...]] = {
    "host": (
        "accelerate==0.21.0",
        "einops==0.4.1",
        "fastapi==0.94.0",
        "filelock==4.1.0",
        "gradio==3.41.2",
        "httpcore==0.15.0",
        "httpx==0.24.1",
        "huggingface-hub==0.36.2",
        "numpy==1.26.2",
        "Pillow==9.5.0",
        "pillow-avif-plugin==1.4.3",
        "protobuf==3.20.0",
        "psutil==5.9.5",
        "pydantic==1.10.27",
        "safetensors==0.4.2",
        "starlette==0.26.1",
        "tokenizers==0.13.3",
        "transformers==4.30.2",
    ),
    "newest": (
        "accelerate==1.15.0",
        "einops==0.8.2",
        "filelock==4.2.12",
        "huggingface-hub==2.4.0",
        "numpy==2.4.6",
        "Pillow==13.0.0",
        "protobuf==7.36.2",
        "psutil==7.2.2",
        "safetensors==0.8.0",
        "tokenizers==0.23.3",
        "transformers==5.23.0",
    ),
}

_DEVELOPMENT = (
    "hypothesis==6.168.5",
    "import-linter==2.15",
    "mypy==2.4.1",
    "pytest==9.2.0",
    "pytest-timeout==2.4.0",
    "pytest-xdist==3.8.0",
    "ruff==0.17.6",
)

#: Tests of the page drive a Chromium that is there already, and ask axe-core, which the second brings; the page itself belongs to the set `host`.
_BROWSER: dict[str, tuple[str, ...]] = {"host": ("playwright==1.65.2", "axe-playwright-python==0.1.8"), "newest": ()}


@dataclass(frozen=True)
class Span:
    """The versions of a library of the WebUI's that were run.

    Attributes:
        name: of the distribution.
        oldest, newest: releases.
    """

    name: str
    oldest: str
    newest: str


#: Library set → what training stands on and is not ours. It is never changed by us; another version is said.
RUN_WITH: dict[str, tuple[Span, ...]] = {
    "host": (Span("torch", "2.1.2", "2.13.0"), Span("transformers", "4.30.2", "4.30.2"), Span("numpy", "1.26.2", "1.26.2")),
    "newest": (Span("torch", "2.13.0", "2.13.0"), Span("transformers", "5.23.0", "5.23.0"), Span("numpy", "2.4.6", "2.4.6")),
}

#: Only its table of byte pairs is read (the tokenizer's vocabulary); it is never imported, so nothing that it asks for is needed.
_VOCABULARY = "open-clip-torch==2.20.0"


def set_of_python(python: tuple[int, int]) -> str | None:
    """The library set of a Python version, or None when that version is not supported."""
    return SET_OF_PYTHON.get(python)


def torch_pin(library_set: str, python: tuple[int, int]) -> str:
    """The pin of torch; with the WebUI's pins on Python 3.10 it is the version that most of its users have."""
    return "torch==2.1.2" if library_set == "host" and python == (3, 10) else "torch==2.13.0"


def environment_pins(library_set: str, python: tuple[int, int]) -> tuple[list[str], list[str]]:
    """What quickstart.py installs: pins with their dependencies, then pins without.

    The WebUI's set adds our libraries without dependencies, as install.py does, so that tests see what a user has.
    """
    base = [torch_pin(library_set, python), *_BASE[library_set], *_DEVELOPMENT, *_BROWSER[library_set]]
    ours = [add_on.pin for add_on in ADD_ONS[library_set]]
    return (base, [*ours, _VOCABULARY]) if library_set == "host" else ([*base, *ours], [_VOCABULARY])


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version: ``2.13.0+cpu`` is (2, 13, 0). Enough to compare releases; pre-releases count as theirs."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def installed_version(name: str, module: str | None = None) -> str | None:
    """The version of an installed package, "unknown" when a copy is there that does not tell, None when there is none."""
    try:
        # A damaged installation may hold no version, whatever the signature says.
        return metadata.version(name) or "unknown"
    except metadata.PackageNotFoundError:
        pass
    spec = util.find_spec(module or name)
    # A plain folder of that name (no origin) is not the library.
    return "unknown" if spec is not None and spec.origin is not None else None


def library_set_here() -> str:
    """The set that the running interpreter's own transformers belongs to; without one, the set of its Python version."""
    transformers = release(installed_version("transformers") or "")
    if transformers:
        return "host" if transformers < (5,) else "newest"
    return set_of_python(sys.version_info[:2]) or "newest"


def missing() -> list[AddOn]:
    """The add-ons of which there is no copy at all; imports none of them."""
    return [add_on for add_on in ADD_ONS[library_set_here()] if installed_version(add_on.name, add_on.module) is None]


def command_to_add(pins: list[str]) -> str:
    """The command that a person types to add these pins to the running interpreter's environment."""
    return " ".join([f'"{sys.executable}"', "-m", "pip", "install", "--no-deps", *pins])


def problems() -> list[str]:
    """What is missing or outside the range that was run, for the tab: a sentence each, with the command that mends it.

    Empty when all is well. Imports none of the libraries.
    """
    sentences = [_problem_of(add_on, installed_version(add_on.name, add_on.module)) for add_on in ADD_ONS[library_set_here()]]
    sentences += [_problem_of_span(span, installed_version(span.name)) for span in RUN_WITH[library_set_here()]]
    return [sentence for sentence in [*sentences, _problem_of_hub(installed_version("huggingface-hub", "huggingface_hub"))] if sentence]


def _problem_of(add_on: AddOn, version: str | None) -> str:
    command = command_to_add([add_on.pin])
    if version is None:
        return f"{add_on.name} is missing; it is needed for {add_on.needed_for}. To add it, stop the WebUI and run: {command}"
    if version == "unknown" or add_on.was_run_with(version):
        return ""
    span = add_on.oldest if add_on.oldest == add_on.newest else f"{add_on.oldest} to {add_on.newest}"
    return (
        f"{add_on.name} {version} is installed; Finetune was run with {span} ({add_on.needed_for}). It was left as it is, because "
        f"another extension may need it. If training fails and nothing else uses it, stop the WebUI and run: {command}"
    )


def _problem_of_span(span: Span, version: str | None) -> str:
    if version is None:
        return f"{span.name} is missing; it is needed for {_TRAINING}. In the WebUI it is a part of the WebUI's own installation: start that first."
    if version == "unknown" or release(span.oldest) <= release(version)[:3] <= release(span.newest):
        return ""
    tried = span.oldest if span.oldest == span.newest else f"{span.oldest} to {span.newest}"
    return (
        f"{span.name} {version} is installed; Finetune was run with {tried}. The WebUI or another extension has put it there, and it is left "
        "as it is. If training fails, see the guide, on other extensions that break an installation."
    )


def _problem_of_hub(version: str | None) -> str:
    if version is None or version == "unknown" or release(version) >= release(OLDEST_HUB):
        return ""
    command = command_to_add(["huggingface-hub==0.36.2"])
    return (
        f"huggingface-hub {version} is installed; {_TRAINING} needs {OLDEST_HUB} or newer. It was left as it is, because the WebUI "
        f"uses it. To change it, stop the WebUI and run: {command}"
    )
