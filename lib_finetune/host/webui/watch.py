"""The watch over a run: tells our changes of the host apart from those of the person.

Each of our turns is compared with itself, beginning with end; whatever changes between turns is the person's doing. What an
extension puts in order while the WebUI makes an image for us is its own affair, but for the weights: those must be what they
were. The digest of all weights is taken at the start of a run and at its end and finds what no counter sees; in between those
weights are looked at whose counters moved.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from lib_finetune.errors import FinetuneError, WeightsChangedError
from lib_finetune.host.webui import remembered_state, weights
from lib_finetune.host.webui.modules import webui
from lib_finetune.host.webui.remembered_state import Mark, Surroundings
from lib_finetune.model.digest import digest
from lib_finetune.ports.checkpoint import CheckpointInfo

_log = logging.getLogger(__name__)
_NAMED = 3
_WHEN = {True: "the training had the model", False: "an image of this run was made"}
_REWRITTEN = ("alphas_cumprod",)  # the WebUI sets it anew for every image, by the person's options


class Watch:
    """Collects differences over one run. Used under the turn only."""

    def __init__(self, model: nn.Module, checkpoint: CheckpointInfo) -> None:
        """Take the digest of clean weights.

        Args:
            checkpoint: the one that is loaded.
        """
        self.checkpoint = checkpoint
        self.broken: WeightsChangedError | None = None
        """Why the run must stop: weights were changed in a turn of ours and could not be put back."""
        self._digest = _digest(model)
        self._present = dict(self._digest)
        self._last = remembered_state.marks(model)
        self._model = id(model)
        self._others: set[str] = set()
        self._differences: dict[str, str] = {}
        self._options: dict[str, tuple[Any, Any]] = {}

    def turn_begins(self, model: nn.Module) -> None:
        """Compare clean weights with those that our last turn left; what has changed since is the host's doing, or the person's.

        The Lora extension's patches are taken back and do not count.
        """
        now = remembered_state.marks(model)
        if id(model) != self._model:
            self._model, self._last = id(model), {}
        changed = self._changed(model, _touched(self._last, now))
        self._last = now
        if not changed:
            return
        _log.warning("%s changed between turns of the run, while the WebUI had the model.", _named(list(changed)))
        self._present |= changed
        self._others.update(name for name in changed if not now[name].patchable)

    def turn_over(self, model: nn.Module) -> None:
        """Remember how our turn leaves the weights, clean and where they were."""
        self._last = remembered_state.marks(model)

    def lease_ended(self, model: nn.Module, began: Mapping[str, Mark], ended: Mapping[str, Mark]) -> None:
        """Note which weights were written to while we had them; those whose values changed are put back, or the run ends."""
        if began == ended:
            return
        for name in {**began, **ended}:
            before, after = began.get(name), ended.get(name)
            if before is None or after is None:
                self._differences.setdefault(name, "is new" if before is None else "is gone")
            elif difference := before.differs(after):
                self._differences.setdefault(name, difference)
        self._mend(model, self._changed(model, _touched(began, ended) & self._present.keys()), in_training=True)

    def picture_made(self, model: nn.Module) -> None:
        """Check whether an extension has left weights changed after an image of ours; they are put back, or the run ends."""
        now = remembered_state.marks(model)
        touched = _touched(self._last, now)
        # New weights and new dtypes are the extensions' own business: the WebUI itself changes the dtype of an autoencoder that gave NaN.
        free = [name for name in touched if name not in self._digest or name not in self._last or self._last[name].dtype != now[name].dtype]
        own, theirs = self._changed(model, touched.difference(free)), self._changed(model, free)
        self._present |= theirs
        self._others |= theirs.keys()
        self._mend(model, own, in_training=False)
        self._last = remembered_state.marks(model)

    def _changed(self, model: nn.Module, names: Collection[str]) -> dict[str, int]:
        """The weights whose values have changed, with their new digests."""
        if not names:
            return {}
        now = _digest(model, names)
        return {name: value for name, value in now.items() if self._present.get(name) != value}

    def _mend(self, model: nn.Module, changed: Mapping[str, int], *, in_training: bool) -> None:
        if not changed:
            return
        digests = {name: self._present[name] for name in changed}
        if self.checkpoint.path is not None:
            try:
                weights.put_back(model, self.checkpoint.path, digests)
            except FinetuneError:
                _log.info("The checkpoint's file cannot be read", exc_info=True)
        left = self._changed(model, list(changed))
        if not left:
            _log.warning("%s changed while %s; put back from the checkpoint's file.", _named(list(changed)), _WHEN[in_training])
            return
        self._present |= left
        for name in left:
            self._differences.setdefault(name, "has other values")
        self.broken = WeightsChangedError(
            f"Something changed weights of the loaded model while {_WHEN[in_training]}: {_named(list(left))}. They could not be put back, so "
            "the run was stopped. Choose another checkpoint at the top left and this one again, switch off extensions that change the model, "
            "and continue.",
            in_training=in_training,
        )

    def around(self, before: Surroundings, after: Surroundings) -> None:
        """Note the other changes in our turn."""
        for subject, difference in before.differences(after).items():
            self._differences.setdefault(subject, difference)

    def settings(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """Note settings that changed during our turn; the end of the run shows who changed them."""
        for key in {**before, **after}:
            if before.get(key) != after.get(key):
                self._options.setdefault(key, (before.get(key), after.get(key)))

    def differences(self) -> list[str]:
        """The findings so far, a sentence each."""
        return [f"{subject} {difference}" for subject, difference in self._differences.items()] + self._settings_left()

    def compare_weights(self, model: nn.Module) -> int:
        """Compare the digest of clean weights with the first one; returns how many tensors are equal."""
        self.turn_begins(model)
        now = _digest(model)
        equal = 0
        for name in {**self._digest, **now}:
            if self._digest.get(name) == now.get(name):
                equal += 1
            elif name in self._others:
                _log.info("%s changed between turns, while the WebUI had it.", name)
            else:
                self._differences.setdefault(name, "has other values")
        return equal

    def _settings_left(self) -> list[str]:
        """Whether the person changed a setting: then it is in the settings file, and a change of ours by mistake would not be."""
        if not self._options:
            return []
        now, saved = remembered_state.options(), _saved_settings()
        return [
            f"the setting {key} is {remembered_state.shown(now.get(key))}, was {remembered_state.shown(before)}"
            for key, (before, after) in self._options.items()
            if now.get(key) == after and before != after and saved.get(key) != after
        ]


def _digest(model: nn.Module, names: Collection[str] | None = None) -> dict[str, int]:
    """The digests of all weights, or of some; a weight without memory has none."""
    tensors = weights.collect(model, ("",))
    return digest(
        {
            name: tensor
            for name, tensor in tensors.items()
            if name not in _REWRITTEN and not tensor.is_meta and (names is None or name in names)
        }
    )


def _touched(before: Mapping[str, Mark], after: Mapping[str, Mark]) -> set[str]:
    """Weights that were written to, moved or replaced, and new ones."""
    return {
        name
        for name, mark in after.items()
        if (last := before.get(name)) is None or (last.version, last.pointer, last.dtype) != (mark.version, mark.pointer, mark.dtype)
    }


def _named(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _saved_settings() -> dict[str, Any]:
    try:
        settings = json.loads(Path(webui("shared").config_filename).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return settings if isinstance(settings, dict) else {}
