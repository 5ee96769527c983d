"""The checkpoint that a training begins on."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CheckpointInfo:
    """The checkpoint now loaded. Two are the same for training exactly when their `identity` is equal.

    Attributes:
        name: file stem, shown to the person ("v1-5-pruned-emaonly").
        path: the file it came from, or None.
        sha256: of the file, lower-case hex, or None when the host has not hashed it.
        short_hash: the first 10 digits that the WebUI shows, or None.
        vae: name of a VAE override in force, or None for the checkpoint's own.
        prediction: what the UNet predicts, "epsilon" or "v_prediction".
        size, modified_ns: bytes and time of the file when a run began on it, or None.
    """

    name: str
    path: Path | None
    sha256: str | None
    short_hash: str | None
    vae: str | None
    prediction: str = "epsilon"
    size: int | None = None
    modified_ns: int | None = None

    @property
    def identity(self) -> tuple[str, str | None]:
        """What must stay equal while a job runs: the file (by path, else name) and the VAE override."""
        return (str(self.path) if self.path else self.name, self.vae)

    def to_json(self) -> str:
        """For a file beside a run's state."""
        return json.dumps({**dataclasses.asdict(self), "path": self.path and str(self.path)})

    @classmethod
    def from_json(cls, text: str) -> CheckpointInfo:
        """The inverse of `to_json`; fields that an earlier version did not write are None."""
        known = {field.name for field in dataclasses.fields(cls)}
        fields = {name: value for name, value in json.loads(text).items() if name in known}
        return cls(**{**fields, "path": fields["path"] and Path(fields["path"])})

    def __str__(self) -> str:
        return f"{self.name} with VAE {self.vae}" if self.vae else self.name
