"""Plans from one flat list of options, as a settings file names them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from lib_finetune.data.captioning import Captioning
from lib_finetune.data.cropping import Cropping
from lib_finetune.data.plan import Plan
from lib_finetune.data.scan import Picture


def plan_of(pictures: Sequence[Picture], class_pictures: Sequence[Picture] = (), **options: Any) -> Plan:
    """A plan; options of cropping and captioning go to their parts, all others to the plan itself."""
    parts = {}
    for kind in (Cropping, Captioning):
        names = {entry.name for entry in dataclasses.fields(kind)}
        parts[kind.__name__.lower()] = kind(**{name: options.pop(name) for name in names & options.keys()})
    return Plan(pictures, class_pictures, **parts, **options)
