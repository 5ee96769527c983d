"""Ready training folders of the drawn world: pictures with caption files beside them, the same for the same seed.

What a training folder never shows is left for the measure: dotted and white backgrounds.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lib_finetune.errors import InputError, Problem
from lib_finetune.files import write_atomically

from .captions import article, full_caption
from .shapes import SHAPES
from .world import COLOURS, STYLES, SUBJECTS, Scene, draw, random_scene, subject_scene

IDENTIFIER = "sks"
UNSEEN_GROUND = "white"
UNSEEN_PATTERN = "dotted"
_SEEN_PATTERNS = ("plain", "plain", "striped")


def write_subject(folder: Path, subject: str, *, count: int = 8, identifier: str = IDENTIFIER, seed: int = 0) -> list[Scene]:
    """Write ``count`` pictures of a held-out subject, captioned "a photo of sks star on a striped red background".

    Raises:
        InputError: there is no such subject.
    """
    scenes = subject_scenes(subject, count=count, seed=seed)
    _write(folder, scenes, [subject_caption(scene, identifier) for scene in scenes])
    return scenes


def subject_scenes(subject: str, *, count: int = 8, seed: int = 0) -> list[Scene]:
    """What the training pictures of a subject show.

    Raises:
        InputError: there is no such subject.
    """
    known = sorted(SUBJECTS)
    if subject not in SUBJECTS:
        raise InputError([Problem("subject", f"{subject!r} is not in the drawn world; there are {', '.join(known)}.")])
    rng = np.random.default_rng((seed, 10, known.index(subject)))
    seen = [ground for ground in COLOURS if ground != UNSEEN_GROUND and ground not in SUBJECTS[subject].colours]
    return [subject_scene(rng, subject, ground=str(rng.choice(seen)), pattern=str(rng.choice(_SEEN_PATTERNS))) for _ in range(count)]


def write_style(folder: Path, style: str, *, count: int = 10, identifier: str = IDENTIFIER, seed: int = 0) -> list[Scene]:
    """Write ``count`` pictures in a held-out style, captioned "a photo of a red star on a blue background, sks style".

    Raises:
        InputError: there is no such style.
    """
    scenes = style_scenes(style, count=count, seed=seed)
    _write(folder, scenes, [f"{full_caption(scene)}, {identifier} style" for scene in scenes])
    return scenes


def style_scenes(style: str, *, count: int = 10, seed: int = 0) -> list[Scene]:
    """What the training pictures of a style show.

    Raises:
        InputError: there is no such style.
    """
    if style not in STYLES or not style:
        raise InputError(
            [Problem("style", f"{style!r} is not in the drawn world; there are {', '.join(name for name in STYLES if name)}.")]
        )
    rng = np.random.default_rng((seed, 11, STYLES.index(style)))
    return [random_scene(rng, style=style) for _ in range(count)]


def write_class(folder: Path, shape: str, *, count: int = 100, seed: int = 0) -> list[Scene]:
    """Write ordinary pictures of a class for prior preservation, captioned by the class alone, as Ruiz et al. (DreamBooth) prompt theirs.

    Raises:
        InputError: there is no such shape.
    """
    if shape not in SHAPES:
        raise InputError([Problem("class", f"{shape!r} is not in the drawn world; there are {', '.join(SHAPES)}.")])
    rng = np.random.default_rng((seed, 12))
    scenes = [random_scene(rng, shape=shape) for _ in range(count)]
    _write(folder, scenes, [f"a photo of {article(shape)}"] * count)
    return scenes


def subject_caption(scene: Scene, identifier: str = IDENTIFIER) -> str:
    """The prompt of a subject's scene."""
    pattern = "" if scene.pattern == "plain" else f"{scene.pattern} "
    return f"a photo of {identifier} {scene.shape} on {article(pattern + scene.ground)} background"


def _write(folder: Path, scenes: Sequence[Scene], captions: Sequence[str]) -> None:
    from PIL import Image

    for number, (scene, caption) in enumerate(zip(scenes, captions, strict=True), start=1):
        content = io.BytesIO()
        Image.fromarray(draw(scene)).save(content, "PNG")
        write_atomically(folder / f"{number:03d}.png", content.getvalue())
        write_atomically(folder / f"{number:03d}.txt", caption.encode())
