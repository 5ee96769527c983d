"""The session: the frozen record that the stages of a run share once its objects are assembled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lib_finetune.assembly.builder import Assembly
    from lib_finetune.assembly.rate_plan import RatePlan
    from lib_finetune.assembly.run_plans import PreviewPlan, SavingPlan
    from lib_finetune.config.settings import Settings
    from lib_finetune.data.scan import Picture
    from lib_finetune.ports.events import ProgressSink
    from lib_finetune.ports.host import Host
    from lib_finetune.runs.artifacts import Artifacts
    from lib_finetune.runs.control import Control
    from lib_finetune.runs.folder import RunFolder
    from lib_finetune.runs.painting import Painter, Patience
    from lib_finetune.runs.previews import Previews
    from lib_finetune.runs.room import DiskRoom
    from lib_finetune.runs.snapshots import Snapshots
    from lib_finetune.runs.waiting import Waiting


@dataclass(frozen=True)
class Session:
    """What the stages of a run share.

    Attributes:
        settings: with all automatic values filled in.
        rates: learning rates by step.
        fingerprint: of the images, so that a state resumes only on the same images.
        held: validation images, which are not trained on.
        room: writes files, and waits if the disk is full.
        patience: for work that is not the result, once a stop is asked for.
    """

    settings: Settings
    rates: RatePlan
    fingerprint: str
    folder: RunFolder
    host: Host
    sink: ProgressSink
    control: Control
    waiting: Waiting
    assembly: Assembly
    saving: SavingPlan
    preview: PreviewPlan
    artifacts: Artifacts
    snapshots: Snapshots
    previews: Previews
    painter: Painter
    patience: Patience
    held: Sequence[Picture]
    room: DiskRoom

    @property
    def step(self) -> int:
        """The number of finished steps."""
        return self.assembly.trainer.step

    @property
    def total(self) -> int:
        """The number of steps of the whole run."""
        return self.assembly.trainer.plan.steps
