"""The folder of a run. This module alone knows the names of the files in it."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from lib_finetune.config import codec
from lib_finetune.config.settings import Settings
from lib_finetune.errors import InputError
from lib_finetune.files import write_atomically

_log = logging.getLogger(__name__)
SETTINGS = "settings.json"
CHECKPOINT = "checkpoint.json"
STATE = "state.safetensors"
NEXT = "state-next.safetensors"
FINAL = "final.safetensors"
PREVIEW_CHECKPOINT = "preview.safetensors"
PREVIEWS = "previews"
_STATE_OF_STEP = re.compile(r"state-(\d{6,})\.safetensors")


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run, whether the files exist or not.

    It has more than fifteen methods because each file of a run is a property of one line, and no other module knows its name.
    """

    path: Path

    @property
    def settings_file(self) -> Path:
        """The settings as the person gave them."""
        return self.path / SETTINGS

    @property
    def checkpoint_file(self) -> Path:
        """The checkpoint that training began on."""
        return self.path / CHECKPOINT

    @property
    def state(self) -> Path:
        """The last good state of a run that has not ended."""
        return self.path / STATE

    @property
    def next_state(self) -> Path:
        """A newer state, until the loss after it is known; then it replaces the last good one, or is removed."""
        return self.path / NEXT

    def latest_state(self) -> Path | None:
        """The state that a run resumes from; None without any."""
        return next((path for path in (self.next_state, self.state) if path.is_file()), None)

    @property
    def final_state(self) -> Path:
        """The state of the last step of a run that is done."""
        return self.path / FINAL

    @property
    def preview_checkpoint(self) -> Path:
        """A checkpoint that exists while its preview is made."""
        return self.path / PREVIEW_CHECKPOINT

    @property
    def previews_index(self) -> Path:
        """What the previews in `previews` show."""
        return self.path / "previews.json"

    @property
    def previews(self) -> Path:
        """Preview images, one folder a step."""
        return self.path / PREVIEWS

    @property
    def snapshots_index(self) -> Path:
        """The snapshots of the run."""
        return self.path / "points.json"

    @property
    def record(self) -> Path:
        """What a restart of the program needs to know of the job."""
        return self.path / "job.json"

    @property
    def writes(self) -> Path:
        """The journal of what the run writes."""
        return self.path / "writes.jsonl"

    @property
    def used_files(self) -> Path:
        """What the run used of Finetune's folder beside its own: encoded images and sets of class images."""
        return self.path / "used.txt"

    @property
    def log(self) -> Path:
        """Lines of the log with their times."""
        return self.path / "log.csv"

    @property
    def losses(self) -> Path:
        """Step and loss."""
        return self.path / "losses.csv"

    @property
    def validation(self) -> Path:
        """Step and loss on the validation images."""
        return self.path / "validation.csv"

    @property
    def traceback(self) -> Path:
        """The traceback of an error that should not happen."""
        return self.path / "traceback.txt"

    @property
    def further_file(self) -> Path:
        """After which step a run of further steps begins."""
        return self.path / "further.json"

    def further_after(self) -> int | None:
        """The step after which this run's further steps begin; None for a run that begins with its first step."""
        try:
            step = json.loads(self.further_file.read_text(encoding="utf-8"))["step"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("%s cannot be read: %s", self.further_file, error)
            return None
        return step if isinstance(step, int) else None

    def write_further(self, step: int) -> None:
        """
        Raises:
            SaveError: the folder cannot be written.
        """
        write_atomically(self.further_file, json.dumps({"step": step}).encode("utf-8"))

    def state_of(self, step: int) -> Path:
        """The state beside the snapshot of a step."""
        return self.path / f"state-{step:06d}.safetensors"

    def states_of_steps(self) -> dict[int, Path]:
        """Step → state, of all states beside snapshots."""
        matches = ((_STATE_OF_STEP.fullmatch(file.name), file) for file in self.path.glob("state-*.safetensors"))
        return {int(match[1]): file for match, file in matches if match}

    def resumes(self) -> bool:
        """Whether a run on this folder continues from a saved state."""
        return self.latest_state() is not None

    def settings(self) -> Settings | None:
        """The stored settings, or None when they cannot be read."""
        try:
            return codec.load(self.settings_file)
        except InputError as error:
            _log.warning("%s", error)
            return None

    def write_settings(self, settings: Settings) -> None:
        """
        Raises:
            SaveError: the folder cannot be written.
        """
        write_atomically(self.settings_file, codec.to_json(settings).encode("utf-8"))
