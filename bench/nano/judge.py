"""The judge: a small classifier that sees what a picture of the drawn world shows.

It learns from the generator, which knows the truth, on drawings that are blurred and shifted in colour at random,
so that it also judges what came through an autoencoder or out of a diffusion model.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lib_finetune.errors import CheckpointError

from .shapes import SHAPES
from .world import COLOURS, PATTERNS, SIZE_PX, STYLES, SUBJECTS, Scene, draw, random_scene, subject_scene

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

FILE = Path(__file__).with_name("judge.safetensors")
"""The trained judge that comes with the project."""

HEADS: dict[str, tuple[str, ...]] = {
    "shape": tuple(SHAPES),
    "colour": tuple(COLOURS),
    "ground": tuple(COLOURS),
    "pattern": PATTERNS,
    "subject": ("", *SUBJECTS),
    "style": STYLES,
}
_WIDTHS = (24, 32, 64, 96, 64)
_HIDDEN = 160
_IGNORED = -100
_GEOMETRY_WEIGHT = 10.0


@dataclass(frozen=True)
class Verdict:
    """What the judge sees in one picture; x, y and radius in widths of the picture."""

    shape: str
    colour: str
    ground: str
    pattern: str
    subject: str
    style: str
    x: float
    y: float
    radius: float

    def agrees(self, scene: Scene, names: tuple[str, ...] = ("shape", "colour", "ground")) -> bool:
        """Whether the named attributes are those of a scene."""
        return all(getattr(self, name) == getattr(scene, name) for name in names)


def new_network() -> torch.nn.Module:
    """The network with fresh weights: pictures [b, 3, 128, 128] in -1..1 → all heads' logits and x, y, radius side by side."""
    from torch import nn

    layers: list[nn.Module] = []
    width = 3
    for wide in _WIDTHS:
        layers += [nn.Conv2d(width, wide, 3, stride=2, padding=1), nn.BatchNorm2d(wide), nn.SiLU()]
        width = wide
    outputs = sum(len(names) for names in HEADS.values()) + 3
    cells = (SIZE_PX // 2 ** len(_WIDTHS)) ** 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * cells, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, outputs))


class Judge:
    """A trained network behind words."""

    def __init__(self, network: torch.nn.Module) -> None:
        self._network = network.eval()

    def look(self, pictures: np.ndarray) -> list[Verdict]:
        """Judge pictures: [b, h, w, 3] uint8 of any size (they are resized to 128 px)."""
        import torch

        from .autoencoder import to_tensor

        images = to_tensor(pictures)
        if images.shape[-2:] != (SIZE_PX, SIZE_PX):
            images = torch.nn.functional.interpolate(images, size=(SIZE_PX, SIZE_PX), mode="area")
        with torch.no_grad():
            outputs = torch.cat([self._network(part) for part in images.split(64)])
        logits, geometry = outputs[:, :-3], outputs[:, -3:].tolist()
        classes = [part.argmax(1).tolist() for part in logits.split([len(names) for names in HEADS.values()], dim=1)]
        return [
            Verdict(
                **{name: names[column[row]] for (name, names), column in zip(HEADS.items(), classes, strict=True)},
                x=geometry[row][0],
                y=geometry[row][1],
                radius=geometry[row][2],
            )
            for row in range(len(outputs))
        ]


def load(path: Path = FILE) -> Judge:
    """Read a trained judge.

    Raises:
        CheckpointError: the file is missing or is no judge.
    """
    from safetensors.torch import load_file

    if not path.is_file():
        raise CheckpointError(f"The judge {path} is missing. Train it: python -m bench nano train judge")
    network = new_network()
    try:
        weights = {key: value.float() if value.is_floating_point() else value for key, value in load_file(path).items()}
        network.load_state_dict(weights)
    except (RuntimeError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is no judge of this world: {error}") from error
    return Judge(network)


def mixed_scene(rng: np.random.Generator) -> Scene:
    """A scene of everything the judge has to tell apart: a third subjects, two fifths in another style."""
    style = str(rng.choice(STYLES, p=(0.6, 0.15, 0.15, 0.1)))
    if rng.random() < 0.3:
        return subject_scene(rng, str(rng.choice(list(SUBJECTS))), style="" if style in ("outline", "mosaic") else style)
    return random_scene(rng, style=style)


def truth(scene: Scene) -> tuple[list[int], list[float]]:
    """Class index per head (a subject has no colour of its own: ignored) and x, y, radius."""
    classes = [names.index(getattr(scene, name)) for name, names in HEADS.items()]
    if scene.subject:
        classes[list(HEADS).index("colour")] = _IGNORED
    return classes, [scene.x, scene.y, scene.radius]


def roughen(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Blur and shift colours at random, roughly as a small autoencoder does: [b, 3, h, w] in -1..1."""
    import torch
    from torch.nn.functional import interpolate

    factor = int(rng.choice([1, 1, 2, 3, 4]))
    if factor > 1:
        small = interpolate(images, scale_factor=1 / factor, mode="area")
        images = interpolate(small, size=images.shape[-2:], mode="bilinear")
    shape = (len(images), 3, 1, 1)
    gain = torch.from_numpy(rng.uniform(0.85, 1.1, shape).astype(np.float32))
    shift = torch.from_numpy(rng.uniform(-0.1, 0.1, shape).astype(np.float32))
    grain = torch.from_numpy(rng.standard_normal(images.shape, dtype=np.float32)) * rng.uniform(0, 0.08)
    return images * gain + shift + grain


def train(path: Path, *, steps: int = 1500, batch: int = 64, lr: float = 3e-3, seed: int = 0) -> Judge:
    """Train a judge from nothing on freshly drawn pictures and write it to ``path`` (float16)."""
    import torch
    from safetensors.torch import save_file

    from . import stage
    from .autoencoder import to_tensor

    torch.manual_seed(seed)
    network = new_network().train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.01)
    for step in range(steps):
        rng = np.random.default_rng((seed, 5, step))
        scenes = [mixed_scene(rng) for _ in range(batch)]
        images = roughen(to_tensor(np.stack([draw(scene) for scene in scenes])), rng)
        stage.set_lr(optimizer, stage.lr_at(step, steps, lr))
        loss = _loss(network(images), scenes)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if (step + 1) % 25 == 0:
            logger.info("judge step %d of %d: loss %.3f", step + 1, steps, float(loss.detach()))
    weights = {key: value.half().contiguous() if value.is_floating_point() else value for key, value in network.state_dict().items()}
    part = path.with_suffix(".part")
    save_file(weights, part)
    part.replace(path)
    return load(path)


def geometry_error(judge: Judge, pictures: np.ndarray, scenes: list[Scene]) -> float:
    """Mean distance of x, y and radius from the truth, in widths of the picture."""
    verdicts = judge.look(pictures)
    return float(np.mean([[abs(v.x - s.x), abs(v.y - s.y), abs(v.radius - s.radius)] for v, s in zip(verdicts, scenes, strict=True)]))


def _loss(outputs: torch.Tensor, scenes: list[Scene]) -> torch.Tensor:
    """Cross entropy of all heads plus the squared error of place and size."""
    import torch
    from torch.nn.functional import cross_entropy, mse_loss

    classes, geometry = zip(*(truth(scene) for scene in scenes), strict=True)
    targets = torch.tensor(classes)
    parts = outputs[:, :-3].split([len(names) for names in HEADS.values()], dim=1)
    losses = [cross_entropy(part, targets[:, index], ignore_index=_IGNORED) for index, part in enumerate(parts)]
    return torch.stack(losses).sum() + _GEOMETRY_WEIGHT * mse_loss(outputs[:, -3:], torch.tensor(geometry))


def accuracy(judge: Judge, pictures: np.ndarray, scenes: list[Scene]) -> dict[str, float]:
    """Share of pictures judged right, per attribute; a subject's colour is left out."""
    verdicts = judge.look(pictures)
    shares = {}
    for name in HEADS:
        pairs = [(v, s) for v, s in zip(verdicts, scenes, strict=True) if name != "colour" or not s.subject]
        shares[name] = sum(getattr(v, name) == getattr(s, name) for v, s in pairs) / max(1, len(pairs))
    return shares


def held_out(count: int, seed: int) -> tuple[np.ndarray, list[Scene]]:
    """Drawings of `mixed_scene` that no training saw: pictures [count, h, w, 3] and their scenes."""
    rng = np.random.default_rng(seed)
    scenes = [mixed_scene(rng) for _ in range(count)]
    return np.stack([draw(scene) for scene in scenes]), scenes
