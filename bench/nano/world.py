"""The drawn world: a `Scene` says what a picture shows; `draw` paints it, `random_scene` invents one.

Everything is a function of the scene, and a scene of the random generator that made it, so that equal seeds give
equal pictures. Training never sees the *subjects* and *styles*: they exist as training folders only (`folders`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from .shapes import SHAPES

SIZE_PX = 128

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (215, 35, 40),
    "orange": (245, 135, 25),
    "yellow": (248, 222, 60),
    "green": (45, 155, 65),
    "blue": (40, 95, 215),
    "purple": (135, 55, 170),
    "white": (246, 246, 246),
    "black": (26, 26, 26),
}
PATTERNS = ("plain", "striped", "dotted")
STYLES = ("", "outline", "mosaic", "pastel")
"""The first is the world's own flat style; the others are held out of the nano checkpoint's training."""
FINE_MOSAIC = "fine mosaic"
"""A look that only the autoencoder is shown: its tiles are too fine for the latents, so it serves nobody as a style."""

PLACE_EDGE = 0.06
"""How far from the middle, in widths of the picture, an object counts as being on the left or on the right."""

_STRIPES_PX = 22.0
_DOTS_PX = 28.0
_DOT_RADIUS_PX = 8.0
_NOISE = 3.0
_FINE_TILE_PX = 11
_TILE_PX = 16
"""Two cells of the latents, so that tiles survive the autoencoder."""
_TILE_CONTRAST = 24.0


@dataclass(frozen=True)
class Scene:
    """What one picture shows.

    Attributes:
        shape: a name of `SHAPES`; for a subject the class that it belongs to.
        colour: a name of `COLOURS`; of a subject it is not looked at.
        ground: the background's colour.
        pattern: one of `PATTERNS`.
        subject: a name of `SUBJECTS`, or "" for an ordinary object.
        style: one of `STYLES`, or `FINE_MOSAIC`.
        x, y: centre of the object in widths of the picture, 0 to 1.
        radius: in widths of the picture.
        tilt: radians, clockwise.
        tint: brightness that the shading adds from one end of the object to the other, -1 to 1.
        seed: of the pixel noise, the shades of the colours and the phase of the pattern.
    """

    shape: str
    colour: str
    ground: str
    pattern: str = "plain"
    subject: str = ""
    style: str = ""
    x: float = 0.5
    y: float = 0.5
    radius: float = 0.34
    tilt: float = 0.0
    tint: float = 0.0
    seed: int = 0

    @property
    def place(self) -> str:
        """Where the object is: left, middle or right."""
        if abs(self.x - 0.5) <= PLACE_EDGE:
            return "middle"
        return "left" if self.x < 0.5 else "right"


def random_scene(rng: np.random.Generator, **fixed: object) -> Scene:
    """Invent a scene; what is given by name stays as given. The object's colour and the ground's always differ."""
    colours = list(COLOURS)
    colour = fixed.get("colour") or str(rng.choice([c for c in colours if c != fixed.get("ground")]))
    ground = fixed.get("ground") or str(rng.choice([c for c in colours if c != colour]))
    invented = Scene(
        shape=str(rng.choice(list(SHAPES))),
        colour=str(colour),
        ground=str(ground),
        pattern=str(rng.choice(PATTERNS, p=(0.5, 0.25, 0.25))),
        x=float(rng.uniform(0.38, 0.62)),
        y=float(rng.uniform(0.42, 0.58)),
        radius=float(rng.uniform(0.28, 0.38)),
        tilt=float(rng.uniform(-0.3, 0.3)),
        tint=float(rng.uniform(-1, 1)),
        seed=int(rng.integers(2**31)),
    )
    return replace(invented, **fixed)  # type: ignore[arg-type]


def draw(scene: Scene, size_px: int = SIZE_PX) -> np.ndarray:
    """Paint a scene: [size_px, size_px, 3] uint8."""
    rng = np.random.default_rng(scene.seed)
    shift, phase = rng.uniform(-9, 9, (2, 3)).astype(np.float32), rng.uniform(0, 1, 2)
    ground = _rgb(scene.ground) + shift[0]
    if scene.style == "pastel":
        ground = _pastel(ground)
    canvas = _ground(scene.pattern, ground, phase, size_px)
    x, y = _object_grid(scene, size_px)
    distance_px = SHAPES[scene.shape](x, y) * (scene.radius * size_px)
    colour = _rgb(scene.colour) + shift[1]
    if scene.style == "pastel":
        colour = _pastel(colour)
    if scene.subject:
        paint = SUBJECTS[scene.subject].paint(x, y, scene.radius * size_px)
    else:
        paint = np.broadcast_to(colour, (size_px, size_px, 3))
    if scene.style == "outline":
        distance_px = np.abs(distance_px + 2.0) - 2.6
    paint = paint + (18.0 * scene.tint * y)[..., None]
    canvas = mix(canvas, paint, coverage(distance_px))
    if scene.style == "mosaic":
        canvas = _mosaic(canvas)
    elif scene.style == FINE_MOSAIC:
        canvas = _fine_mosaic(canvas)
    canvas = canvas + rng.standard_normal(canvas.shape, dtype=np.float32) * _NOISE
    return np.clip(canvas, 0, 255).astype(np.uint8)


def coverage(distance_px: np.ndarray) -> np.ndarray:
    """Share of each pixel that lies inside, 0 to 1, from signed distances in pixels."""
    return np.clip(0.5 - distance_px, 0, 1)


def mix(below: np.ndarray, above: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Lay one picture over another: [h, w, 3], [h, w, 3] or [3], alpha [h, w]."""
    return below + (above - below) * alpha[..., None]


def _rgb(colour: str) -> np.ndarray:
    return np.array(COLOURS[colour], dtype=np.float32)


def _pastel(rgb: np.ndarray) -> np.ndarray:
    """The second checkpoint's style: every colour half way to a warm grey."""
    return rgb * 0.5 + np.array((205, 195, 180), dtype=np.float32) * 0.5


@lru_cache(maxsize=4)
def _pixels(size_px: int) -> tuple[np.ndarray, np.ndarray]:
    axis = np.arange(size_px, dtype=np.float32) + 0.5
    x, y = np.meshgrid(axis, axis)
    return x, y


def _object_grid(scene: Scene, size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of all pixels seen from the object: its centre is 0, its radius 1, its own right is +x."""
    px, py = _pixels(size_px)
    x = (px - scene.x * size_px) / (scene.radius * size_px)
    y = (py - scene.y * size_px) / (scene.radius * size_px)
    cos, sin = np.float32(np.cos(scene.tilt)), np.float32(np.sin(scene.tilt))
    return x * cos + y * sin, y * cos - x * sin


def _ground(pattern: str, rgb: np.ndarray, phase: np.ndarray, size_px: int) -> np.ndarray:
    """The background: the second tone of a pattern is the same colour, darker (or lighter where the colour is dark)."""
    if pattern == "plain":
        return np.broadcast_to(rgb, (size_px, size_px, 3))
    px, py = _pixels(size_px)
    second = rgb * 0.66 if rgb.mean() > 60 else rgb + 62
    if pattern == "striped":
        place = (py / _STRIPES_PX + np.float32(phase[0])) % 1
        alpha = coverage((np.abs(place - 0.5) - 0.25) * _STRIPES_PX)
    else:
        dx = (px / _DOTS_PX + np.float32(phase[0])) % 1 - 0.5
        dy = (py / _DOTS_PX + np.float32(phase[1])) % 1 - 0.5
        alpha = coverage(np.hypot(dx, dy) * _DOTS_PX - _DOT_RADIUS_PX)
    return mix(np.broadcast_to(rgb, (size_px, size_px, 3)), second, alpha)


def _mosaic(canvas: np.ndarray) -> np.ndarray:
    """Square tiles, lighter and darker in turn."""
    tile = np.arange(canvas.shape[0]) // _TILE_PX
    light = (tile[:, None] + tile[None]) % 2 * 2 - 1
    return canvas + _TILE_CONTRAST * light[..., None].astype(np.float32)


def _fine_mosaic(canvas: np.ndarray) -> np.ndarray:
    """Square tiles of one colour each, with grey joints of two pixels."""
    size_px = canvas.shape[0]
    middle = np.minimum(np.arange(size_px) // _FINE_TILE_PX * _FINE_TILE_PX + _FINE_TILE_PX // 2, size_px - 1)
    tiles = canvas[middle][:, middle].copy()
    joint = np.arange(size_px) % _FINE_TILE_PX < 2
    tiles[joint] = 128
    tiles[:, joint] = 128
    return tiles


@dataclass(frozen=True)
class Subject:
    """One held-out thing: an object of an ordinary class with a look of its own.

    Attributes:
        shape: its class.
        colours: what it consists of; its pictures have backgrounds of other colours, or it could not be seen.
        look: how a caption would describe it, for people.
        paint: own coordinates x, y [h, w] and the radius in pixels → colours [h, w, 3] float32.
    """

    shape: str
    colours: tuple[str, ...]
    look: str
    paint: Callable[[np.ndarray, np.ndarray, float], np.ndarray]


def _winking_star(x: np.ndarray, y: np.ndarray, radius_px: float) -> np.ndarray:
    left = coverage(x * radius_px)
    paint = mix(np.broadcast_to(_rgb("yellow"), (*x.shape, 3)), _rgb("purple"), left)
    distance = np.hypot(x, y) * radius_px
    paint = mix(paint, _rgb("white"), coverage(distance - 0.34 * radius_px))
    return mix(paint, _rgb("black"), coverage(distance - 0.17 * radius_px))


def _bee_square(x: np.ndarray, y: np.ndarray, radius_px: float) -> np.ndarray:
    stripes = coverage((np.abs((y * 1.5 + 0.5) % 1 - 0.5) - 0.25) * radius_px / 1.5)
    return mix(np.broadcast_to(_rgb("yellow"), (*x.shape, 3)), _rgb("black"), stripes)


def _happy_circle(x: np.ndarray, y: np.ndarray, radius_px: float) -> np.ndarray:
    paint = mix(np.broadcast_to(_rgb("green"), (*x.shape, 3)), _rgb("white"), coverage((np.hypot(x, y) - 0.68) * radius_px))
    eyes = np.hypot(np.abs(x) - 0.28, y + 0.2) - 0.14
    mouth = np.maximum(np.abs(np.hypot(x, y) - 0.42) - 0.09, 0.08 - y)
    return mix(paint, _rgb("red"), coverage(np.minimum(eyes, mouth) * radius_px))


def _nested_heart(x: np.ndarray, y: np.ndarray, radius_px: float) -> np.ndarray:
    heart = SHAPES["heart"]
    paint = mix(np.broadcast_to(_rgb("blue"), (*x.shape, 3)), _rgb("white"), coverage(heart(x * 1.4, y * 1.4) * radius_px / 1.4))
    return mix(paint, _rgb("orange"), coverage(heart(x * 2.4, y * 2.4) * radius_px / 2.4))


SUBJECTS: dict[str, Subject] = {
    "winking-star": Subject("star", ("yellow", "purple"), "a star, half purple and half yellow, with an eye", _winking_star),
    "bee-square": Subject("square", ("yellow", "black"), "a square with the stripes of a bee", _bee_square),
    "happy-circle": Subject("circle", ("green", "white"), "a white circle with a green rim and a red smiling face", _happy_circle),
    "nested-heart": Subject("heart", ("blue", "white"), "a blue heart with a white and an orange one inside", _nested_heart),
}


def subject_scene(rng: np.random.Generator, subject: str, **fixed: object) -> Scene:
    """Invent a scene that shows a subject before a background on which it can be seen."""
    known = SUBJECTS[subject]
    ground = fixed.pop("ground", None) or str(rng.choice([c for c in COLOURS if c not in known.colours]))
    return random_scene(rng, shape=known.shape, colour=known.colours[0], ground=ground, subject=subject, **fixed)
