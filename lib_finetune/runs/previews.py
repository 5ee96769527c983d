"""Previews of a run: the base and each point at the same prompts and seeds, made by the host, and the watch on side effects."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from lib_finetune.assembly.automatic_settings import class_caption
from lib_finetune.data.captions import template_caption
from lib_finetune.data.images import load_rgb
from lib_finetune.evaluation import watch
from lib_finetune.files import write_atomically
from lib_finetune.ports.events import PreviewRow, ProgressSink
from lib_finetune.ports.host import Host
from lib_finetune.ports.pictures import PictureRequest

if TYPE_CHECKING:
    from lib_finetune.assembly.dataset import Dataset
    from lib_finetune.config.settings import Settings

_log = logging.getLogger(__name__)
FOLDER, INDEX = "previews", "previews.json"
_FORM = "finetune-previews-1"
_MAX_PX = 512
_CLASS_SEEDS = 2
"""Seeds of a prompt that is only watched: one picture alone may change by chance."""


@dataclass(frozen=True)
class Wanted:
    """A prompt that every preview paints, and how often.

    Attributes:
        kind: as in `PreviewRow.kinds`.
        prompt: in which ``{trigger}`` and ``{class}`` may stand.
    """

    kind: str
    prompt: str
    count: int


def prompts(settings: Settings) -> list[str]:
    """The person's preview prompts, or the caption template."""
    given = [line.strip() for line in re.split(r"[;\n]", settings.preview.prompts)]
    return [line for line in given if line] or [settings.data.template]


def watches(settings: Settings) -> bool:
    """Whether side effects are watched."""
    chosen = settings.preview.watch
    return settings.method == "dreambooth" if chosen == "auto" else chosen == "on"


def wanted(settings: Settings) -> list[Wanted]:
    """All prompts of a preview. An embedding leaves the model as it is, so that it has nothing beside the subject to be watched."""
    found = [Wanted(watch.SUBJECT, prompt, settings.preview.count) for prompt in prompts(settings)]
    if watches(settings) and settings.method != "textual_inversion":
        if settings.data.class_word.strip():
            found.append(Wanted(watch.CLASS, class_caption(settings), _CLASS_SEEDS))
        found += [Wanted(watch.OTHER, prompt, _CLASS_SEEDS) for prompt in watch.UNRELATED]
    return found


def spoken(prompt: str, settings: Settings, word: str) -> str:
    """A prompt with the trigger as ``word``: an embedding of the way is called by its own name."""
    trigger = settings.data.trigger
    if trigger and word != trigger:
        prompt = re.sub(rf"(?<!\w){re.escape(trigger)}(?!\w)", lambda _: word, prompt)
    return template_caption(prompt, word, settings.data.class_word)


class Previews:
    """The rows of one run, kept in its folder with an index beside them."""

    def __init__(self, settings: Settings, host: Host, folder: Path, sink: ProgressSink, found: Dataset) -> None:
        """
        Args:
            settings: resolved.
            folder: of the run; rows that lie there are told to ``sink`` again.
            found: the person's pictures, for the likeness to them.
        """
        self._settings = settings
        self._host = host
        self._folder = folder
        self._sink = sink
        self._pictures = found
        self._own: list[list[Image.Image]] = []
        self._rows, self._curves = stored(folder)
        for row in self._rows.values():
            sink.previewed(row)
        for name, curve in self._curves.items():
            for step, value in curve:
                sink.figure(name, step, value)

    def has(self, step: int) -> bool:
        """Whether the row of a step is there, all its pictures with it."""
        return step in self._rows and all((self._folder / name).is_file() for name in self._rows[step].files)

    def add_base(self) -> None:
        """Make the base's row, without any file, unless it is there.

        Raises:
            FinetuneError: as `Host.pictures`.
            SaveError: a picture cannot be written.
        """
        if not self.has(0):
            self._add(0, {})

    def add(self, step: int, files: Mapping[str, Path]) -> Image.Image:
        """Make the row of a step with its files and look for side effects. Returns the first picture.

        Raises:
            FinetuneError: as `Host.pictures`, or a picture of the person's is gone.
            SaveError: a picture cannot be written.
        """
        self.add_base()
        self._add(step, files)
        for name, value in self._measured(step).items():
            curve = [point for point in self._curves.get(name, ()) if point[0] < step]
            self._curves[name] = [*curve, (step, value)]
            self._sink.figure(name, step, value)
        self._remember()
        if watches(self._settings):
            for said in watch.warnings({name: curve for name, curve in self._curves.items() if curve[-1][0] == step}):
                self._sink.say(f"Step {step}: {said}")
        return self._load(step, watch.SUBJECT)[0]

    def first(self, files: Mapping[str, Path]) -> Image.Image:
        """The first picture of a row, made with ``files`` and kept nowhere.

        Raises:
            FinetuneError: as `Host.pictures`.
        """
        return self._host.picture(self._request(prompts(self._settings)[0], files))

    def _add(self, step: int, files: Mapping[str, Path]) -> None:
        columns: list[tuple[str, str, int, str]] = []
        for each in wanted(self._settings):
            request = self._request(each.prompt, files)
            prompt = spoken(each.prompt, self._settings, self._settings.data.trigger)
            for place, image in enumerate(self._host.pictures(request, each.count)):
                name = f"{FOLDER}/{step:06d}/{len(columns):02d}.png"
                _write_png(self._folder / name, image)
                columns.append((each.kind, prompt, request.seed + place, name))
            self._host.between_turns()
        kinds, said, seeds, names = zip(*columns, strict=True)
        self._rows[step] = PreviewRow(step, kinds, said, seeds, names)
        self._remember()
        self._sink.previewed(self._rows[step])

    def _request(self, prompt: str, files: Mapping[str, Path]) -> PictureRequest:
        settings, side = self._settings, min(_MAX_PX, self._settings.data.resolution)
        word = files["embedding"].stem if "embedding" in files else settings.data.trigger
        return PictureRequest(
            spoken(prompt, settings, word),
            loras=((files["lora"], settings.preview.weight),) if "lora" in files else (),
            embeddings=(files["embedding"],) if "embedding" in files else (),
            checkpoint=files.get("checkpoint"),
            width_px=side,
            height_px=side,
            steps=settings.preview.steps,
            seed=settings.preview.seed,
        )

    def _measured(self, step: int) -> dict[str, float]:
        if not watches(self._settings):
            return {}
        kinds = (watch.SUBJECT, watch.CLASS, watch.OTHER)
        base, now = ({kind: self._load(row, kind) for kind in kinds} for row in (0, step))
        training, held = self._person()
        return watch.figures(base, now, training, held)

    def _load(self, step: int, kind: str) -> list[Image.Image]:
        row = self._rows[step]
        return [load_rgb(self._folder / name) for name, own in zip(row.files, row.kinds, strict=True) if own == kind]

    def _person(self) -> list[list[Image.Image]]:
        """Pictures trained on, and those held out; small, for that is all their likeness is read from."""
        if not self._own:
            self._own = [[_small(load_rgb(each.path)) for each in group] for group in (self._pictures.pictures, self._pictures.held)]
        return self._own

    def _remember(self) -> None:
        rows = [dataclasses.asdict(row) for _, row in sorted(self._rows.items())]
        content = {"form": _FORM, "rows": rows, "figures": self._curves}
        write_atomically(self._folder / INDEX, json.dumps(content, indent=2, ensure_ascii=False).encode("utf-8"))


def _small(image: Image.Image) -> Image.Image:
    image.thumbnail((256, 256))
    return image


def _write_png(path: Path, image: Image.Image) -> None:
    content = io.BytesIO()
    image.save(content, format="PNG")
    write_atomically(path, content.getvalue())


def stored(folder: Path) -> tuple[dict[int, PreviewRow], dict[str, list[tuple[int, float]]]]:
    """What lies in a run's folder: rows by step, and the curves of the watch; nothing where the index is missing or cannot be read."""
    try:
        stored: dict[str, Any] = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        rows = [PreviewRow(**{name: _tuple(value) for name, value in row.items()}) for row in stored["rows"]]
        return {row.step: row for row in rows}, {
            name: [(step, value) for step, value in curve] for name, curve in stored["figures"].items()
        }
    except FileNotFoundError:
        return {}, {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        _log.warning("%s cannot be read: %s", folder / INDEX, error)
        return {}, {}


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
