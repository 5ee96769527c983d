"""Putting the nano checkpoint into a WebUI: the file, its configuration, and the text model's folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from lib_finetune.errors import CheckpointError, InputError
from lib_finetune.files import write_atomically

from . import checkpoint


def install(webui_dir: Path, source: Path = checkpoint.FILE) -> Path:
    """Copy the nano checkpoint into a WebUI (or its data folder) so that it can be chosen there.

    The WebUI takes `<stem>.yaml` beside a checkpoint for its configuration, and the text encoder in it is named by
    a folder; without that it would ask a model hub for the full-sized one.

    Args:
        webui_dir: the folder that holds `models`.
        source: a nano checkpoint; its file name is kept.

    Returns:
        The installed checkpoint.

    Raises:
        InputError: ``webui_dir`` has no `models` folder.
        CheckpointError: ``source`` is missing.
    """
    if not source.is_file():
        raise CheckpointError(f"The nano checkpoint {source} is missing. Train it with: python -m bench nano train")
    models = webui_dir.resolve() / "models"
    if not models.is_dir():
        raise InputError(f"{webui_dir} is no WebUI: it has no folder 'models'. Name the folder in which the WebUI's webui.py lies.")
    target = models / "Stable-diffusion" / source.name
    text_folder = models / "nano-clip"
    checkpoint.write_text_folder(text_folder)
    # JSON is YAML too, and needs no YAML library to be written
    write_atomically(target.with_suffix(".yaml"), json.dumps(checkpoint.webui_config(text_folder), indent=2).encode())
    part = target.with_suffix(".part")
    shutil.copyfile(source, part)
    part.replace(target)
    return target
