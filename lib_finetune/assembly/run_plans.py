"""The plans that a run reads instead of its settings: saving, previews, and class images."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lib_finetune.assembly.artifact_kinds import artifact_kinds_of
from lib_finetune.assembly.automatic_settings import class_caption, prior_of
from lib_finetune.assembly.method_traits import keeps_states
from lib_finetune.assembly.subjects import calling_words, classes_of, subject_prompts
from lib_finetune.data.captions import template_caption
from lib_finetune.evaluation import watch
from lib_finetune.export import lora_file
from lib_finetune.export.metadata import Recipe, lora_metadata, usage_hint
from lib_finetune.ports.files import Card
from lib_finetune.text.extra_networks import without_networks

if TYPE_CHECKING:
    import torch

    from lib_finetune.assembly.artifact_kinds import Base
    from lib_finetune.assembly.subjects import Subject
    from lib_finetune.config.settings import Settings
    from lib_finetune.ports.files import Paths

_MAX_PREVIEW_PX = 512
_MAX_CLASS_PX = 512
_WATCH_SEEDS = 2
"""Seeds of a prompt that is only watched: one image alone may change by chance."""


@dataclass(frozen=True)
class ArtifactWriter:
    """One kind of file that a run makes, with the run's settings filled in.

    Attributes:
        kind: "lora", "checkpoint" or "embedding".
        target: (paths of the host, name) → the file.
        write: (file, trained tensors, recipe, the base's tensors) → None; raises SaveError.
        call: (file stem) → what a person writes or chooses to use the file.
    """

    kind: str
    target: Callable[[Paths, str], Path]
    write: Callable[[Path, Mapping[str, torch.Tensor], Recipe, Base], None]
    call: Callable[[str], str]


@dataclass(frozen=True)
class SavingPlan:
    """How a run saves.

    Attributes:
        name: of the result.
        writers: one for each kind of file, the main one first.
        overwrite: whether a file of the same name is replaced.
        keep: how many snapshots stay; 0 keeps all.
        every_steps, every_epochs: between snapshots; 0 is never.
        state_every: steps between saved states.
        states: which states stay when the run is done: "none", "last" or "all".
        load_result: whether the host loads the result at the end.
        extract: (file, difference of each module, recipe) → None; writes a LoRA extracted from a checkpoint; None where none is asked for.
        extract_rank: its rank.
        clip_skip: to use the result with, which its card tells.
        card: what the WebUI's card of the result shows.
    """

    name: str
    writers: tuple[ArtifactWriter, ...]
    overwrite: bool
    keep: int
    every_steps: int
    every_epochs: int
    state_every: int
    states: str
    load_result: bool
    extract_rank: int
    extract: Callable[[Path, Mapping[str, torch.Tensor], Recipe], None] | None
    clip_skip: int
    card: Card

    def targets(self, paths: Paths, name: str) -> dict[str, Path]:
        """Kind → where the files of a result of this name go."""
        return {writer.kind: writer.target(paths, name) for writer in self.writers}


def saving_plan(settings: Settings, subjects: Sequence[Subject] = ()) -> SavingPlan:
    """The plan of resolved settings; the card tells what calls each of the subjects."""
    data, saving, tuning = settings.data, settings.saving, settings.tuning
    words = calling_words(settings, subjects)
    whole_model = settings.method == "dreambooth"

    def extract(path: Path, tensors: Mapping[str, torch.Tensor], recipe: Recipe) -> None:
        lora_file.write(path, tensors, lora_metadata(recipe), saving.precision)

    return SavingPlan(
        name=settings.name,
        writers=tuple(_writer(settings, number) for number in range(len(artifact_kinds_of(settings)))),
        overwrite=saving.overwrite,
        keep=saving.keep,
        every_steps=saving.every_steps,
        every_epochs=saving.every_epochs,
        state_every=saving.state_every,
        states=keeps_states(settings),
        load_result=whole_model and tuning.select,
        extract_rank=tuning.lora_rank if whole_model else 0,
        extract=extract if whole_model and tuning.lora_rank else None,
        clip_skip=settings.training.clip_skip or 1,
        card=Card(
            words,
            settings.preview.weight,
            f"Made with Finetune from {Path(data.images).name}.",
            usage_hint(settings.training.clip_skip or 1),
        ),
    )


def _writer(settings: Settings, number: int) -> ArtifactWriter:
    kind = artifact_kinds_of(settings)[number]
    return ArtifactWriter(
        kind.kind,
        lambda paths, name: kind.target(paths, settings, name),
        lambda path, tensors, recipe, base: kind.write(path, tensors, recipe, settings, base),
        lambda stem: kind.call(stem, settings),
    )


@dataclass(frozen=True)
class PreviewPrompt:
    """A prompt that every preview paints.

    Attributes:
        kind: as in `PreviewRow.kinds`.
        prompt: in which ``{trigger}`` and ``{class}`` may stand.
        count: how many seeds.
    """

    kind: str
    prompt: str
    count: int


@dataclass(frozen=True)
class PreviewPlan:
    """How a run shows what it has learned.

    Attributes:
        enabled: whether images are made at all.
        every: steps between previews; 0: only the card's image.
        prompts: all prompts of a preview, the card's first.
        watches: whether side effects are watched.
        weight: of a LoRA in the images.
        side_px, steps, seed, clip_skip: of an image; ``seed`` is the first of each prompt.
        trigger, class_word: fill the prompts.
        whole_model: whether a preview needs a checkpoint of its own.
    """

    enabled: bool
    every: int
    prompts: tuple[PreviewPrompt, ...]
    watches: bool
    weight: float
    side_px: int
    steps: int
    seed: int
    clip_skip: int | None
    trigger: str
    class_word: str
    whole_model: bool

    def filled(self, prompt: str, word: str) -> str:
        """A prompt with ``word`` in place of the trigger word: the embedding of a snapshot is called by its own name."""
        if self.trigger and word != self.trigger:
            prompt = re.sub(rf"(?<!\w){re.escape(self.trigger)}(?!\w)", lambda _: word, prompt)
        return without_networks(template_caption(prompt, word, self.class_word))[0]


@dataclass(frozen=True)
class ClassImagesPlan:
    """Class images that a run makes for itself.

    Attributes:
        prompts: class word → "a photo of dog"; the settings' own first, where an image is called so.
        own: class word of the settings.
        side_px: width and height.
        count: how many of each class.
        clip_skip: that of the training; None: as the host is set.
    """

    prompts: Mapping[str, str]
    own: str
    side_px: int
    count: int
    clip_skip: int | None


def class_images_plan(settings: Settings, subjects: Sequence[Subject]) -> ClassImagesPlan | None:
    """The plan of resolved settings; None where the prior needs no class images."""
    if prior_of(settings) != "pictures":
        return None
    prompts = {word: without_networks(prompt)[0] for word, prompt in classes_of(settings, subjects).items()}
    side_px = min(_MAX_CLASS_PX, settings.data.resolution)
    return ClassImagesPlan(prompts, settings.data.class_word, side_px, settings.data.class_count, settings.training.clip_skip)


def preview_plan(settings: Settings, subjects: Sequence[Subject] = ()) -> PreviewPlan:
    """The plan of resolved settings; without prompts of the person's, each of the subjects is shown."""
    preview = settings.preview
    return PreviewPlan(
        enabled=preview.enabled,
        every=preview.every or 0,
        prompts=tuple(_preview_prompts(settings, subjects)),
        watches=_watches(settings),
        weight=preview.weight,
        side_px=min(_MAX_PREVIEW_PX, settings.data.resolution),
        steps=preview.steps,
        seed=preview.seed,
        clip_skip=settings.training.clip_skip,
        trigger=settings.data.trigger,
        class_word=settings.data.class_word,
        whole_model=settings.method == "dreambooth",
    )


def _preview_prompts(settings: Settings, subjects: Sequence[Subject]) -> list[PreviewPrompt]:
    """An embedding leaves the model as it is, so that it has nothing beside the subject to be watched."""
    lines = [without_networks(line)[0] for line in preview_lines(settings)]
    subject = [line for line in lines if line] or [
        without_networks(line)[0] for line in (settings.data.template, *subject_prompts(settings, subjects))
    ]
    prompts = [PreviewPrompt(watch.SUBJECT, line, settings.preview.count) for line in subject]
    if _watches(settings) and settings.method != "textual_inversion":
        if settings.data.class_word.strip():
            prompts.append(PreviewPrompt(watch.CLASS, class_caption(settings), _WATCH_SEEDS))
        prompts += [PreviewPrompt(watch.OTHER, prompt, _WATCH_SEEDS) for prompt in watch.UNRELATED]
    return prompts


def preview_lines(settings: Settings) -> list[str]:
    """The person's own preview prompts, as they are written."""
    return [line for line in (line.strip() for line in re.split(r"[;\n]", settings.preview.prompts)) if line]


def preview_notes(settings: Settings) -> list[str]:
    """What is said of the preview prompts: networks in them would change the base's images, and apply the run's own file twice."""
    if not settings.preview.enabled:
        return []
    tags = dict.fromkeys(tag for line in (*preview_lines(settings), settings.data.template) for tag in without_networks(line)[1])
    if not tags:
        return []
    return [f"Left out of the previews: {', '.join(tags)}. They show the loaded model and what is trained here, and nothing else."]


def _watches(settings: Settings) -> bool:
    choice = settings.preview.watch
    return settings.method == "dreambooth" if choice == "auto" else choice == "on"
