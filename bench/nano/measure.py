"""What a training did to nano: the figures of measuring.md, from two painters (before and after) and the judge.

A painter is any callable that turns prompts and seeds into pictures, so that LoRA, checkpoint and embedding files
of any trainer are measured alike. Equal seeds before and after make the pairs of pictures comparable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from lib_finetune.evaluation.colour import lab

from . import statistics
from .captions import full_caption
from .folders import IDENTIFIER, UNSEEN_GROUND, UNSEEN_PATTERN
from .judge import Judge, Verdict
from .shapes import SHAPES
from .statistics import Figure
from .world import SUBJECTS, Scene, draw, random_scene, subject_scene

Paint = Callable[[Sequence[str], Sequence[int]], np.ndarray]
"""Prompts and as many seeds → pictures [n, h, w, 3] uint8."""

_FIRST_SEED = 1000
_HELD_OUT = 50


def subject_figures(
    before: Paint,
    after: Paint,
    by: Judge,
    subject: str,
    *,
    count: int = 50,
    identifier: str = IDENTIFIER,
    training: np.ndarray | None = None,
    elsewhere: Paint | None = None,
) -> dict[str, Figure]:
    """Measure a trained subject; each figure looks at ``count`` pictures.

    Args:
        before, after: painters of the base and of the trained model.
        subject: a name of `SUBJECTS`.
        identifier: what stands before the class name in prompts ("sks", or an embedding's name).
        training: the pictures that it was trained on, [n, h, w, 3] uint8, for the share of copies.
        elsewhere: painter of the trained file on a second checkpoint, for portability.
    """
    shape = SUBJECTS[subject].shape
    seeds = _seeds(count)
    prompt, context = subject_prompts(subject, identifier)
    class_scenes = _scenes(count, seed=1, shape=shape)
    other_scenes = _other_scenes(count, shape)
    painted = after([prompt] * count, seeds)
    shown = by.look(painted)
    in_context = by.look(after([context] * count, seeds))
    class_before, class_after = (paint([full_caption(scene) for scene in class_scenes], seeds) for paint in (before, after))
    others_before, others_after = (paint([full_caption(scene) for scene in other_scenes], seeds) for paint in (before, after))
    bare_class = [f"a photo of a {shape}"] * count
    bare_before, bare_after = (by.look(paint(bare_class, seeds)) for paint in (before, after))
    return {
        "subject fidelity": _shows(shown, subject),
        "prompt fidelity": _in_context(in_context),
        "subject in context": _shows(in_context, subject),
        "class preservation, base": _kept(by.look(class_before), class_scenes),
        "class preservation": _kept(by.look(class_after), class_scenes),
        "other classes, base": _kept(by.look(others_before), other_scenes),
        "other classes": _kept(by.look(others_after), other_scenes),
        "leak, base": _shows(bare_before, subject),
        "leak": _shows(bare_after, subject),
        **_diversity(bare_before, " of the class, base"),
        **_diversity(bare_after, " of the class"),
        **_diversity(shown, " of the subject"),
        "colour drift": statistics.mean(colour_distance(others_before, others_after)),
        **({} if training is None else {"copying": copying(painted, training, _held_out(subject))}),
        **({} if elsewhere is None else _portability(elsewhere, by, subject, identifier, count)),
    }


def subject_prompts(subject: str, identifier: str = IDENTIFIER) -> tuple[str, str]:
    """The subject alone, and before a background that its training never shows."""
    prompt = f"a photo of {identifier} {SUBJECTS[subject].shape}"
    return prompt, f"{prompt} on a {UNSEEN_PATTERN} {UNSEEN_GROUND} background"


def style_figures(
    before: Paint, after: Paint, by: Judge, style: str, *, count: int = 50, identifier: str = IDENTIFIER
) -> dict[str, Figure]:
    """Measure a trained style; prompts end in ", sks style" where the style is wanted."""
    seeds = _seeds(count)
    scenes = _scenes(count, seed=3)
    plain = [full_caption(scene) for scene in scenes]
    styled = by.look(after([f"{caption}, {identifier} style" for caption in plain], seeds))
    plain_before, plain_after = before(plain, seeds), after(plain, seeds)
    judged = by.look(plain_after)
    return {
        "style fidelity": statistics.share([verdict.style == style for verdict in styled]),
        "prompt fidelity": _kept(styled, scenes),
        "class preservation, base": _kept(by.look(plain_before), scenes),
        "class preservation": _kept(judged, scenes),
        "leak": statistics.share([verdict.style == style for verdict in judged]),
        "colour drift": statistics.mean(colour_distance(plain_before, plain_after)),
    }


def copying(pictures: np.ndarray, training: np.ndarray, held_out: np.ndarray) -> Figure:
    """Share of pictures that lie nearer to a training picture than any held-out picture of the subject does.

    Args:
        pictures, training, held_out: [n, h, w, 3] uint8 of one size.
    """
    limit = _nearest(held_out, training).min()
    return statistics.share((_nearest(pictures, training) < limit).tolist())


def _portability(elsewhere: Paint, by: Judge, subject: str, identifier: str, count: int) -> dict[str, Figure]:
    alone, in_context = (by.look(elsewhere([prompt] * count, _seeds(count))) for prompt in subject_prompts(subject, identifier))
    return {"subject fidelity, second checkpoint": _shows(alone, subject), "prompt fidelity, second checkpoint": _in_context(in_context)}


def _shows(verdicts: Sequence[Verdict], subject: str) -> Figure:
    return statistics.share([verdict.subject == subject for verdict in verdicts])


def _in_context(verdicts: Sequence[Verdict]) -> Figure:
    return statistics.share([(v.ground, v.pattern) == (UNSEEN_GROUND, UNSEEN_PATTERN) for v in verdicts])


def _held_out(subject: str) -> np.ndarray:
    """Drawings of a subject that no training folder holds."""
    rng = np.random.default_rng((4, 20))
    return np.stack([draw(subject_scene(rng, subject)) for _ in range(_HELD_OUT)])


def _seeds(count: int) -> range:
    return range(_FIRST_SEED, _FIRST_SEED + count)


def _scenes(count: int, seed: int, **fixed: str) -> list[Scene]:
    rng = np.random.default_rng((seed, 20))
    return [random_scene(rng, **fixed) for _ in range(count)]


def _other_scenes(count: int, shape: str) -> list[Scene]:
    others = [name for name in SHAPES if name != shape]
    return [replace(scene, shape=others[index % len(others)]) for index, scene in enumerate(_scenes(count, seed=2))]


def _kept(verdicts: Sequence[Verdict], scenes: Sequence[Scene]) -> Figure:
    """Share that shows shape, colour and ground as asked, and is no subject."""
    return statistics.share([v.agrees(scene) and not v.subject for v, scene in zip(verdicts, scenes, strict=True)])


def _diversity(verdicts: Sequence[Verdict], of: str) -> dict[str, Figure]:
    """Spread of place and size over seeds in widths of the picture, and how many of all grounds occur."""
    grounds = [verdict.ground for verdict in verdicts]
    commonest = max(grounds.count(ground) for ground in set(grounds))
    return {
        f"place spread{of}": statistics.spread([verdict.x for verdict in verdicts]),
        f"size spread{of}": statistics.spread([verdict.radius for verdict in verdicts]),
        f"commonest ground{of}": statistics.share([index < commonest for index in range(len(grounds))]),
    }


def _nearest(pictures: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Root mean square distance of every picture to the nearest of others, on a grid of 16 × 16 means."""
    small, references = _thumbnails(pictures), _thumbnails(others)
    return np.sqrt(((small[:, None] - references[None]) ** 2).mean(-1)).min(1)


def _thumbnails(pictures: np.ndarray) -> np.ndarray:
    count, height, width, _ = pictures.shape
    cells = pictures.reshape(count, 16, height // 16, 16, width // 16, 3).astype(np.float64).mean((2, 4))
    return cells.reshape(count, -1)


def colour_distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Distance of the mean colours of paired pictures (ΔE 1976): [n].

    Args:
        first, second: [n, h, w, 3] uint8.
    """
    return np.linalg.norm(lab(first).mean((1, 2)) - lab(second).mean((1, 2)), axis=1)
