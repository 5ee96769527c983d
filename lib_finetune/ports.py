"""The ports: what Finetune asks of the outside, as Protocols and the plain values that pass through them.

Two hosts implement them: `host/webui.py` (the WebUI's loaded model) and `host/headless.py` (a checkpoint file).
Nothing here is imported from a host, and no host type passes inwards.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from PIL import Image


@dataclass(frozen=True)
class Paths:
    """Where a host keeps things; all absolute. ``data`` is Finetune's own folder (``.finetune``: datasets, runs, cache)."""

    lora: Path
    checkpoints: Path
    embeddings: Path
    data: Path


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
    """

    name: str
    path: Path | None
    sha256: str | None
    short_hash: str | None
    vae: str | None
    prediction: str = "epsilon"

    @property
    def identity(self) -> tuple[str, str | None]:
        """What must stay equal while a job runs: the file (by path, else name) and the VAE override."""
        return (str(self.path) if self.path else self.name, self.vae)

    def to_json(self) -> str:
        """For a file beside a run's state."""
        return json.dumps({**dataclasses.asdict(self), "path": self.path and str(self.path)})

    @classmethod
    def from_json(cls, text: str) -> CheckpointInfo:
        """The inverse of `to_json`."""
        fields = json.loads(text)
        return cls(**{**fields, "path": fields["path"] and Path(fields["path"])})

    def __str__(self) -> str:
        return f"{self.name} with VAE {self.vae}" if self.vae else self.name


@dataclass(frozen=True)
class TextTools:
    """What turns words into token ids, as the host does it.

    Attributes:
        tokenizer: a transformers CLIPTokenizer (start 49406, end 49407).
        heads: attention heads of the text model (not to be seen in its weights).
        clip_skip: the host's clip skip, 1 = last layer.
        activation: the text model's activation ("quick_gelu").
    """

    tokenizer: Any
    heads: int
    clip_skip: int
    activation: str = "quick_gelu"


@dataclass(frozen=True)
class Lease:
    """One turn's right to the host's weights; valid until the context manager that gave it is left.

    Attributes:
        tensors: names of the original SD layout ("model.diffusion_model.…", "cond_stage_model.transformer.text_model.…",
            "first_stage_model.…") to detached tensors that share the host's storage, on `device`, clean of LoRA patches.
            Only the parts that were asked for are sure to be on `device`.
        alphas_cumprod: [1000] float32, the undistorted schedule of the model, on `device`.
        scale_factor: latents = scale_factor × posterior sample (0.18215).
        device: where the host computes.
        moved_s: seconds that it took to bring parts to the device and to send others away.
    """

    tensors: Mapping[str, torch.Tensor]
    alphas_cumprod: torch.Tensor
    scale_factor: float
    device: torch.device
    moved_s: float = 0.0


@dataclass(frozen=True)
class Verification:
    """What the host's own loader said of a saved file.

    Attributes:
        matched: modules of the file that the loader matched to the model.
        total: modules in the file.
        message: one line for the log.
    """

    matched: int
    total: int
    message: str

    @property
    def passed(self) -> bool:
        """True when every module was matched."""
        return self.total > 0 and self.matched == self.total


@dataclass(frozen=True)
class Card:
    """What the WebUI's card of a LoRA or embedding shows beside the file."""

    activation_text: str
    preferred_weight: float
    description: str
    notes: str = ""


@dataclass(frozen=True)
class PictureRequest:
    """A picture to be made by the host.

    Attributes:
        prompt, negative_prompt: plain prompts without extra-network tags.
        loras: (file path, weight) pairs that are applied for this picture only.
        embeddings: files whose stems are words of the prompt; the WebUI finds those in its own folder by itself.
        width_px, height_px: multiples of 8.
        steps, guidance, seed: as in txt2img.
        checkpoint: a file whose weights stand in for the loaded ones for this picture only.
    """

    prompt: str
    negative_prompt: str = ""
    loras: Sequence[tuple[Path, float]] = ()
    embeddings: Sequence[Path] = ()
    width_px: int = 512
    height_px: int = 512
    steps: int = 20
    guidance: float = 7.0
    seed: int = 1
    checkpoint: Path | None = None


@dataclass(frozen=True)
class PreviewRow:
    """The pictures of one preview, in the order of the run's prompts and seeds, so that rows of different steps compare.

    Attributes:
        step: steps that the file held; 0 is the base, without any file.
        kinds: of each picture: "subject", "class" (the prompt without the trigger word) or "other" (nothing to do with it).
        prompts, seeds: of each picture.
        files: of each picture, relative to the run's folder, with "/".
    """

    step: int
    kinds: tuple[str, ...]
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    files: tuple[str, ...]


@dataclass(frozen=True)
class Restoration:
    """The outcome of comparing the host before and after a run.

    Attributes:
        differences: one sentence for each thing that is not as it was; empty when all is.
        tensors: how many tensors were compared bit for bit.
        seconds: time that the comparison took.
    """

    differences: tuple[str, ...] = ()
    tensors: int = 0
    seconds: float = 0.0

    @property
    def line(self) -> str:
        """The one line of the report."""
        if self.differences:
            return "NOT as it was: " + "; ".join(self.differences)
        if not self.tensors:
            return "Another checkpoint is loaded now; every turn left the model as it found it."
        return f"The model is exactly as it was: {self.tensors} tensors equal bit for bit, checked in {self.seconds:.1f} s."


class Host(Protocol):
    """The program whose checkpoint is trained on. Used from the job's thread only, except where said."""

    @property
    def paths(self) -> Paths:
        """Any thread; does not block."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    def refusals(self) -> list[str]:
        """Why training cannot start in this state, a sentence each, with the flag to remove ("--lowvram", fp8). Empty: it can."""

    def checkpoint(self) -> CheckpointInfo:
        """The checkpoint now loaded; may block while one is loading.

        Raises:
            HostError: none is loaded and none can be.
        """

    def text_tools(self) -> TextTools:
        """Tokenizer and options of the loaded text encoder."""

    def lease(
        self, wanted: CheckpointInfo | None = None, parts: Iterable[str] = ("unet", "text", "vae"), *, alone: bool = False
    ) -> AbstractContextManager[Lease]:
        """Take the host's turn: blocks until it is ours, cleans the weights, brings ``parts`` to the device; gives all back on leaving.

        Args:
            wanted: the checkpoint that training began on; None for whatever is loaded.
            parts: which of "unet", "text", "vae" are needed on the device.
            alone: the other parts lie in main memory meanwhile.

        Raises:
            CheckpointChangedError: another checkpoint or VAE is loaded. The turn is not taken.
            HostError: the model cannot be borrowed.
        """

    def waiting(self) -> bool:
        """Whether somebody waits for the turn; asked inside a lease. True where the host cannot tell."""

    def between_turns(self) -> None:
        """Called with no lease held: returns when requests that wait for the turn have had theirs (never blocks more than seconds)."""

    def load(self, wanted: CheckpointInfo) -> None:
        """Load the checkpoint and VAE of ``wanted`` (the person chose "load X and go on").

        Raises:
            HostError: it is gone or does not load.
        """

    def remember(self) -> None:
        """Take the picture of the host that `restoration` compares with. Called once a run, under no lease."""

    def restoration(self) -> Restoration:
        """Compare the host with what `remember` saw."""

    def artifact_saved(self, kind: str, path: Path, card: Card) -> Verification:
        """A file was written: refresh the lists, pass it through the host's own loader, write the card beside it.

        Args:
            kind: "lora", "checkpoint" or "embedding".
        """

    def artifact_removed(self, kind: str, path: Path) -> None:
        """A file that `artifact_saved` announced is gone: refresh the lists, forget what is remembered of it."""

    def card_picture(self, kind: str, path: Path, image: Image.Image) -> None:
        """Put a picture on the card of a file that `artifact_saved` announced."""

    def picture(self, request: PictureRequest) -> Image.Image:
        """Make a picture the way the host's own txt2img does. Takes the turn itself; leaves random states and progress as they were."""

    def pictures(self, request: PictureRequest, count: int) -> list[Image.Image]:
        """As `picture`, of ``count`` seeds from the request's on, in one batch."""

    def captioners(self) -> Sequence[str]:
        """Names of what can say what a picture shows; empty where the host has nothing of the kind. Any thread."""

    def describe(self, captioner: str, image: Image.Image) -> str:
        """What an RGB picture shows, as one of `captioners` says it. Takes the turn itself.

        Raises:
            HostError: it cannot say so.
        """

    def face(self, image: Image.Image) -> tuple[float, float] | None:
        """Where the largest face of an RGB picture is, as shares 0..1 of width and height; None without a face. Any thread, no turn.

        Raises:
            InputError: there is no face finder here.
        """

    def memory(self) -> MemoryUse:
        """Device memory now and at its peak since the last `remember`."""


@dataclass(frozen=True)
class MemoryUse:
    """Bytes: on CUDA reserved by torch, on the CPU the resident set of the process."""

    now: int
    peak: int
    total: int
    free: int = 0
    """What can still be had; 0 where the system does not tell."""
    ram: int = 0
    """The same of main memory, which on the CPU is the device's."""


@dataclass(frozen=True)
class StepReport:
    """Scalars of finished steps, fetched from the device together.

    Attributes:
        step: steps done so far.
        total: steps of the whole run.
        losses: one loss per step since the last report.
        rates: learning rate by group, now.
        seconds: time spent in training since the last report.
        scalars: further scalars that are only shown.
    """

    step: int
    total: int
    losses: tuple[float, ...]
    rates: Mapping[str, float]
    seconds: float
    scalars: Mapping[str, float] = field(default_factory=dict)


class ProgressSink(Protocol):
    """Hears how a run goes. A sink that raises is logged and does not end the training."""

    def stage(self, name: str, done: int = 0, total: int = 0) -> None:
        """A stage began or moved on: "bind", "cache", "train", "paused", "save", "verify", "preview", "give back"."""

    def steps(self, report: StepReport) -> None:
        """Some steps are done."""

    def say(self, message: str) -> None:
        """A line for the log, in plain words."""

    def figure(self, name: str, step: int, value: float) -> None:
        """A figure was measured after a step: "validation" (the loss on the pictures held out), or one of the watch on side effects."""

    def previewed(self, row: PreviewRow) -> None:
        """A row of previews is there, made now or by this run before it was stopped."""

    def points(self, points: Sequence[tuple[int, Sequence[Path]]]) -> None:
        """The files of the way that exist now, by step: all of them, each time that one comes or goes."""
