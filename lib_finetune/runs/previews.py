"""Previews of a run: the base and each point at the same prompts and seeds, made by the host, and the watch on side effects."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from lib_finetune.data.images import load_rgb
from lib_finetune.evaluation import watch
from lib_finetune.files import write_atomically
from lib_finetune.ports.events import PreviewRow, ProgressSink
from lib_finetune.ports.host import Host
from lib_finetune.ports.pictures import PictureRequest
from lib_finetune.runs.folder import PREVIEWS

if TYPE_CHECKING:
    from lib_finetune.assembly.dataset import Dataset
    from lib_finetune.assembly.run_plans import PreviewPlan
    from lib_finetune.runs.folder import RunFolder
    from lib_finetune.runs.painting import Painter

_log = logging.getLogger(__name__)
_FORM = "finetune-previews-1"


class Previews:
    """The rows of one run, kept in its folder with an index beside them."""

    def __init__(self, plan: PreviewPlan, host: Host, painter: Painter, folder: RunFolder, sink: ProgressSink, images: Dataset) -> None:
        """
        Args:
            painter: asks the host for the images.
            folder: of the run; ``sink`` gets the rows that lie there again.
            images: the training images, for the likeness to them.
        """
        self._plan = plan
        self._host = host
        self._painter = painter
        self._folder = folder
        self._sink = sink
        self._images = images
        self._own: list[list[Image.Image]] = []
        self._rows, self._curves = stored(folder)
        self._look = self._digest_of_look()
        looks = stored_looks(folder)
        self._looks = {step: looks[step] for step in self._rows if step in looks}
        for row in self._rows.values():
            sink.previewed(row)
        for name, curve in self._curves.items():
            for step, value in curve:
                sink.figure(name, step, value)

    def has(self, step: int) -> bool:
        """Whether the row of a step exists with all its images, made as it would be made now."""
        return self._looks.get(step) == self._look and all((self._folder.path / name).is_file() for name in self._rows[step].files)

    def add_base(self) -> None:
        """Make the base's row, without any file, unless it exists.

        Raises:
            FinetuneError: as `Painter.paint`.
            SaveError: an image cannot be written.
        """
        if not self.has(0):
            self._add(0, {})

    def add(self, step: int, files: Mapping[str, Path]) -> Image.Image:
        """Make the row of a step with its files and look for side effects. Returns the first image.

        Raises:
            FinetuneError: as `Painter.paint`, or an image of the person's is gone.
            SaveError: an image cannot be written.
        """
        self.add_base()
        self._add(step, files)
        for name, value in self._measured(step).items():
            curve = [point for point in self._curves.get(name, ()) if point[0] < step]
            self._curves[name] = [*curve, (step, value)]
            self._sink.figure(name, step, value)
        self._remember()
        if self._plan.watches:
            for warning in watch.warnings({name: curve for name, curve in self._curves.items() if curve[-1][0] == step}):
                self._sink.say(f"Step {step}: {warning}")
        return self._load(step, watch.SUBJECT)[0]

    def first(self, files: Mapping[str, Path]) -> Image.Image:
        """The first image of a row, made with ``files`` and kept nowhere.

        Raises:
            FinetuneError: as `Painter.paint`.
        """
        request = self._request(self._plan.prompts[0].prompt, files)
        return self._painter.paint(request, 1, lambda done, total: self._sink.stage("preview", done, total))[0]

    def _add(self, step: int, files: Mapping[str, Path]) -> None:
        columns: list[tuple[str, str, int, str]] = []
        for number, each in enumerate(self._plan.prompts):
            request = self._request(each.prompt, files)
            prompt = self._plan.filled(each.prompt, self._plan.trigger)
            for place, image in enumerate(self._painter.paint(request, each.count, self._progress(number))):
                name = f"{PREVIEWS}/{step:06d}/{len(columns):02d}.png"
                _write_png(self._folder.path / name, image)
                columns.append((each.kind, prompt, request.seed + place, name))
            self._host.between_turns()
        kinds, prompts, seeds, names = zip(*columns, strict=True)
        self._rows[step], self._looks[step] = PreviewRow(step, kinds, prompts, seeds, names), self._look
        self._remember()
        self._sink.previewed(self._rows[step])

    def _progress(self, finished: int) -> Callable[[int, int], None]:
        """Shows how far a row is, in sampling steps, while the next prompt after ``finished`` ones is painted."""
        count = len(self._plan.prompts)
        return lambda done, total: self._sink.stage("preview", finished * total + done, count * total)

    def _request(self, prompt: str, files: Mapping[str, Path]) -> PictureRequest:
        plan = self._plan
        word = files["embedding"].stem if "embedding" in files else plan.trigger
        return PictureRequest(
            plan.filled(prompt, word),
            loras=((files["lora"], plan.weight),) if "lora" in files else (),
            embeddings=(files["embedding"],) if "embedding" in files else (),
            checkpoint=files.get("checkpoint"),
            width_px=plan.side_px,
            height_px=plan.side_px,
            steps=plan.steps,
            seed=plan.seed,
            clip_skip=plan.clip_skip,
        )

    def _digest_of_look(self) -> str:
        """Digest of everything that a row depends on beside the files of its step: a resumed run may have other prompts, or another size."""
        plan = self._plan
        painted = [[each.kind, each.count, self._request(each.prompt, {}).look()] for each in plan.prompts]
        content = json.dumps([painted, plan.seed, plan.weight], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(content.encode("utf-8")).hexdigest()[:16]

    def _measured(self, step: int) -> dict[str, float]:
        if not self._plan.watches:
            return {}
        kinds = (watch.SUBJECT, watch.CLASS, watch.OTHER)
        base, now = ({kind: self._load(row, kind) for kind in kinds} for row in (0, step))
        training, held = self._person()
        return watch.figures(base, now, training, held)

    def _load(self, step: int, kind: str) -> list[Image.Image]:
        row = self._rows[step]
        return [load_rgb(self._folder.path / name) for name, own in zip(row.files, row.kinds, strict=True) if own == kind]

    def _person(self) -> list[list[Image.Image]]:
        """The training images and the validation images, as thumbnails, which are enough to compare likeness."""
        if not self._own:
            self._own = [[_small(load_rgb(each.path)) for each in group] for group in (self._images.pictures, self._images.held)]
        return self._own

    def _remember(self) -> None:
        rows = [dataclasses.asdict(row) for _, row in sorted(self._rows.items())]
        content = {"form": _FORM, "rows": rows, "figures": self._curves, "looks": self._looks}
        write_atomically(self._folder.previews_index, json.dumps(content, indent=2, ensure_ascii=False).encode("utf-8"))


def _small(image: Image.Image) -> Image.Image:
    image.thumbnail((256, 256))
    return image


def _write_png(path: Path, image: Image.Image) -> None:
    content = io.BytesIO()
    image.save(content, format="PNG")
    write_atomically(path, content.getvalue())


def stored(folder: RunFolder) -> tuple[dict[int, PreviewRow], dict[str, list[tuple[int, float]]]]:
    """The previews in a run's folder: rows by step, and the curves of the watch; empty if the index is missing or cannot be read."""
    try:
        stored: dict[str, Any] = json.loads(folder.previews_index.read_text(encoding="utf-8"))
        rows = [PreviewRow(**{name: _tuple(value) for name, value in row.items()}) for row in stored["rows"]]
        figures = {name: [(step, value) for step, value in curve] for name, curve in stored["figures"].items()}
        points = [*((row.step, 0.0) for row in rows), *(point for curve in figures.values() for point in curve)]
        if not all(type(step) is int and type(value) in (int, float) for step, value in points):
            raise TypeError("a step or a value is no number")
        if not all(isinstance(file, str) for row in rows for file in row.files):
            raise TypeError("an image has no path")
        return {row.step: row for row in rows}, figures
    except FileNotFoundError:
        return {}, {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        _log.warning("%s cannot be read: %s", folder.previews_index, error)
        return {}, {}


def stored_looks(folder: RunFolder) -> dict[int, str]:
    """Step → digest with which its row was made; an earlier version wrote none."""
    try:
        looks = json.loads(folder.previews_index.read_text(encoding="utf-8")).get("looks", {})
        return {int(step): str(look) for step, look in looks.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
