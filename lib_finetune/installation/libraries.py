"""The table of libraries in docs/libraries.md: what each is for, its licence, and the versions that were run.

``python -m lib_finetune.installation.libraries`` prints it. Versions come from `requirements`; only the standard library is imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lib_finetune.installation import requirements


class Use(NamedTuple):
    """
    Attributes:
        purpose: what Finetune needs it for.
        licence: SPDX name.
    """

    purpose: str
    licence: str


USES: dict[str, Use] = {
    "torch": Use("tensors, gradients, optimizers", "BSD-3-Clause"),
    "diffusers": Use("the UNet and the autoencoder that are trained in", "Apache-2.0"),
    "transformers": Use("the text encoder, its tokenizer, Adafactor", "Apache-2.0"),
    "peft": Use("the layers of a LoRA", "Apache-2.0"),
    "lycoris-lora": Use("LoHa and LoKr", "Apache-2.0"),
    "toml": Use("read by lycoris-lora", "MIT"),
    "prodigyopt": Use("the optimizer Prodigy", "MIT"),
    "lion-pytorch": Use("the optimizer Lion", "MIT"),
    "accelerate": Use("read by diffusers and peft; several processes that train together", "Apache-2.0"),
    "safetensors": Use("files of weights", "Apache-2.0"),
    "numpy": Use("images and samples as arrays", "BSD-3-Clause"),
    "Pillow": Use("images are read and written", "HPND"),
    "pillow-avif-plugin": Use("AVIF images, as in the WebUI", "MIT"),
    "psutil": Use("memory of the machine and of the process", "BSD-3-Clause"),
    "filelock": Use("one program at a time in a run's folder", "MIT"),
    "gradio": Use("the tab", "Apache-2.0"),
    "fastapi": Use("the HTTP API", "MIT"),
    "starlette": Use("read by fastapi", "BSD-3-Clause"),
    "pydantic": Use("read by fastapi", "MIT"),
    "httpx": Use("read by gradio", "BSD-3-Clause"),
    "httpcore": Use("read by httpx", "BSD-3-Clause"),
    "huggingface-hub": Use("read by diffusers, transformers and peft; nothing is downloaded", "Apache-2.0"),
    "tokenizers": Use("read by transformers", "Apache-2.0"),
    "einops": Use("read by lycoris-lora", "MIT"),
    "protobuf": Use("read by transformers", "BSD-3-Clause"),
    "open-clip-torch": Use("its table of byte pairs is the tokenizer's vocabulary; its code does not run", "MIT"),
    "pytest": Use("tests", "MIT"),
    "pytest-timeout": Use("tests", "MIT"),
    "pytest-xdist": Use("tests", "MIT"),
    "hypothesis": Use("tests", "MPL-2.0"),
    "ruff": Use("style, in tests", "MIT"),
    "mypy": Use("types, in tests", "MIT"),
    "import-linter": Use("the rows of rooms, in tests", "BSD-2-Clause"),
    "playwright": Use("Chromium in tests", "Apache-2.0"),
    "axe-playwright-python": Use("accessibility in tests", "MIT"),
}


def versions(name: str) -> dict[str, list[str]]:
    """Library set → the versions of a library that were run, as a range where there is one; sets without it are left out."""
    ran: dict[str, list[str]] = {}
    for library_set in requirements.LIBRARY_SETS:
        ranges = {each.name: (each.oldest, each.newest) for each in requirements.ADD_ONS[library_set]}
        ranges |= {each.name: (each.oldest, each.newest) for each in requirements.RUN_WITH[library_set]}
        if name in ranges:
            ran[library_set] = [" to ".join(dict.fromkeys(ranges[name]))]
            continue
        pins = [
            pin
            for python in requirements.PYTHONS_OF_SET[library_set]
            for part in requirements.environment_pins(library_set, python)
            for pin in part
        ]
        if pinned := sorted({pin.partition("==")[2] for pin in pins if pin.partition("==")[0] == name}):
            ran[library_set] = pinned
    return ran


def names() -> list[str]:
    """Every library that is installed for either set, in the order of `USES`, those that it does not know last."""
    pins = {
        pin.partition("==")[0]
        for library_set in requirements.LIBRARY_SETS
        for python in requirements.PYTHONS_OF_SET[library_set]
        for part in requirements.environment_pins(library_set, python)
        for pin in part
    }
    return sorted(pins, key=lambda name: (list(USES).index(name) if name in USES else len(USES), name))


def rows() -> Iterator[Sequence[str]]:
    """A row a library: name, purpose, licence, versions with the WebUI's set and with the newest."""
    for name in names():
        use, ran = USES[name], versions(name)
        yield name, use.purpose, use.licence, *(", ".join(ran.get(library_set, ["-"])) for library_set in requirements.LIBRARY_SETS)


def table() -> str:
    """The table as Markdown."""
    head = ["library", "what it is for", "licence", "with the WebUI's libraries", "with the newest"]
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
