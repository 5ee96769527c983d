"""The watch over a run: what we changed of the host, told apart from what the person changed meanwhile.

Each of our turns is compared with itself, beginning with end; whatever changes between turns is the person's doing. The
digest of all weights is taken at the start of a run and at its end and finds what no counter sees.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from lib_finetune.host.webui import remembered_state, weights
from lib_finetune.host.webui.modules import webui
from lib_finetune.host.webui.remembered_state import Mark, Surroundings
from lib_finetune.model.digest import digest
from lib_finetune.ports.checkpoint import CheckpointInfo

_log = logging.getLogger(__name__)
_REWRITTEN = ("alphas_cumprod",)  # the WebUI assigns it anew for every picture, by the person's options


class Watch:
    """Collects differences over one run. Used under the turn only."""

    def __init__(self, model: nn.Module, checkpoint: CheckpointInfo) -> None:
        """Take the digest of clean weights.

        Args:
            checkpoint: the one that is loaded.
        """
        self.checkpoint = checkpoint
        self._digest = _digest(model)
        self._last = remembered_state.marks(model)
        self._model = id(model)
        self._others: set[str] = set()
        self._found: dict[str, str] = {}
        self._options: dict[str, tuple[Any, Any]] = {}

    def turn_began(self, model: nn.Module, marks: Mapping[str, Mark]) -> None:
        """Note which weights the host has written since our last turn (the Lora extension's patches are taken back and do not count)."""
        if id(model) != self._model:
            self._others.update(marks)
            self._model = id(model)
            return
        if marks == self._last:
            return
        for name, mark in marks.items():
            last = self._last.get(name)
            # A new address comes with a move between devices, which counts as a write but keeps the values.
            written = last is not None and mark.version != last.version and mark.pointer == last.pointer and not mark.patchable
            if last is None or mark.dtype != last.dtype or written:
                self._others.add(name)

    def turn_ended(self, began: Mapping[str, Mark], ended: Mapping[str, Mark]) -> None:
        """Note which weights were touched in our turn."""
        self._last = dict(ended)
        if began == ended:
            return
        for name in {**began, **ended}:
            before, after = began.get(name), ended.get(name)
            if before is None or after is None:
                self._found.setdefault(name, "is new" if before is None else "is gone")
            elif said := before.differs(after):
                self._found.setdefault(name, said)

    def around(self, before: Surroundings, after: Surroundings) -> None:
        """Note what else changed in our turn."""
        for subject, said in before.differences(after).items():
            self._found.setdefault(subject, said)

    def settings(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """Note settings that changed during our turn; whose doing it was is seen at the end."""
        for key in {**before, **after}:
            if before.get(key) != after.get(key):
                self._options.setdefault(key, (before.get(key), after.get(key)))

    def differences(self) -> list[str]:
        """What is known so far, a sentence each."""
        return [f"{subject} {said}" for subject, said in self._found.items()] + self._settings_left()

    def compare_weights(self, model: nn.Module) -> int:
        """Compare the digest of clean weights with the first one; returns how many tensors are equal."""
        now = _digest(model)
        equal = 0
        for name in {**self._digest, **now}:
            if self._digest.get(name) == now.get(name):
                equal += 1
            elif name in self._others:
                _log.info("%s changed between turns, while the WebUI had it.", name)
            else:
                self._found.setdefault(name, "has other values")
        return equal

    def _settings_left(self) -> list[str]:
        """A setting that a person changes reaches the settings file; one that we had changed by mistake would not."""
        if not self._options:
            return []
        now, saved = remembered_state.options(), _saved_settings()
        return [
            f"the setting {key} is {remembered_state.shown(now.get(key))}, was {remembered_state.shown(before)}"
            for key, (before, after) in self._options.items()
            if now.get(key) == after and before != after and saved.get(key) != after
        ]


def _digest(model: nn.Module) -> dict[str, int]:
    return digest({name: tensor for name, tensor in weights.collect(model, ("",)).items() if name not in _REWRITTEN})


def _saved_settings() -> dict[str, Any]:
    try:
        found = json.loads(Path(webui("shared").config_filename).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
