"""The embedded data set: procedural pictures of patterned shapes, made in memory, so that a demo needs no download.

A class is what a person would call the picture: "striped star", "spotted heart" and so on, one of four shapes with one
of four patterns, so neither alone tells the class. Everything else is nuisance, drawn independently of the class: all
colours, place, size, rotation, period of the pattern, backdrop with patches and bars, light and noise.

Only additions, products, comparisons and square roots are used on arrays, which IEEE 754 rounds in one way, and the
random numbers come from Philox counters: the pictures are the same bits on every machine.
"""

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Int32, UInt8

from jigclu_jax.errors import UserError

IMAGE_SIZE = 48  # side in pixels
SPLITS = {"train": 4096, "validation": 1024}  # number of images

Field = Float32[np.ndarray, "n s s"]  # one number a pixel
Column = Float32[np.ndarray, "n 1 1"]  # one number an image

_KEY = 2104_00323
_CHUNK = 256  # images drawn at once: their arrays stay in the processor's cache


def _length(x: Field, y: Field) -> Field:
    return np.sqrt(x * x + y * y)


def _star(x: Field, y: Field) -> Field:
    # folded into one of ten wedges, where the outline is a single line from a tip to the neighbouring notch
    x = np.abs(x)
    for nx, ny in ((0.80901699, -0.58778525), (-0.80901699, -0.58778525)):
        behind = 2 * np.maximum(x * np.float32(nx) + y * np.float32(ny), 0)
        x, y = x - behind * np.float32(nx), y - behind * np.float32(ny)
    x = np.abs(x)
    notch_x, notch_y = 0.5 * 0.58778525, 0.5 * 0.80901699
    side = ((1 - notch_y) ** 2 + notch_x**2) ** 0.5
    return x * np.float32((1 - notch_y) / side) + (y - 1) * np.float32(notch_x / side)


def _heart(x: Field, y: Field) -> Field:
    # a square standing on its corner, with a disc on each of the two upper sides
    half = np.float32(0.58)
    x, y = np.abs(x) * np.float32(0.70710678), (y + np.float32(0.1)) * np.float32(0.70710678)
    a, b = x + y, y - x
    return np.minimum(np.maximum(np.abs(a), np.abs(b)) - half, _length(a - half, b) - half)


def _ring(x: Field, y: Field) -> Field:
    return np.abs(_length(x, y) - np.float32(0.66)) - np.float32(0.29)


def _moon(x: Field, y: Field) -> Field:
    return np.maximum(_length(x, y) - np.float32(0.98), np.float32(0.7) - _length(x - np.float32(0.52), y))


def _wave(x: Field) -> Field:
    """Triangle wave of period 1 in [-1, 1]."""
    return np.abs(x - np.floor(x) - np.float32(0.5)) * 4 - 1


def _striped(x: Field, y: Field) -> Field:
    return _wave(x)


def _zigzag(x: Field, y: Field) -> Field:
    return _wave(x + _wave(y * np.float32(0.6)) * np.float32(0.42))


def _checked(x: Field, y: Field) -> Field:
    a, b = _wave(x * np.float32(0.62)), _wave(y * np.float32(0.62))
    return np.where(a * b > 0, np.float32(1), np.float32(-1)) * np.minimum(np.abs(a), np.abs(b)) * np.float32(1.6)


def _spotted(x: Field, y: Field) -> Field:
    x, y = x * np.float32(0.8), y * np.float32(0.8)
    row = np.floor(y)
    x = x + (row - 2 * np.floor(row * np.float32(0.5))) * np.float32(0.5)
    return 5 * (np.float32(0.37) - _length(x - np.floor(x) - np.float32(0.5), y - row - np.float32(0.5)))


_SHAPES: dict[str, Callable[[Field, Field], Field]] = {"star": _star, "heart": _heart, "ring": _ring, "moon": _moon}
_PATTERNS: dict[str, Callable[[Field, Field], Field]] = {
    "striped": _striped,
    "zigzag": _zigzag,
    "checked": _checked,
    "spotted": _spotted,
}

CLASSES: tuple[str, ...] = tuple(f"{pattern} {shape}" for shape in _SHAPES for pattern in _PATTERNS)


class _Random:
    """Uniform numbers for n images, each call the next of one Philox stream."""

    def __init__(self, stream: int, n: int) -> None:
        self.generator = np.random.Generator(np.random.Philox(key=[_KEY, stream]))
        self.n = n

    def uniform(self, low: float, high: float, *shape: int) -> np.ndarray:
        """float32[n, *shape] in [low, high); one number an image as [n, 1, 1] without a shape."""
        unit = self.generator.random((self.n, *(shape or (1, 1))), dtype=np.float32)
        return np.float32(low) + unit * np.float32(high - low)

    def direction(self) -> tuple[Column, Column]:
        """Cosine and sine of an angle, each [n, 1, 1]."""
        x, y = self.uniform(-1, 1), self.uniform(-1, 1)
        length = np.sqrt(x * x + y * y) + np.float32(1e-6)
        return x / length, y / length

    def tilt(self, most: float) -> tuple[Column, Column]:
        """Cosine and sine of an angle whose half has a tangent up to `most`."""
        t = self.uniform(-most, most)
        return (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)


def _colours(random: _Random) -> Float32[np.ndarray, "n 4 1 1 3"]:
    """A light and a dark colour for the object, in either order, then two between them for the backdrop; any hue anywhere.

    Object and backdrop have the same mean, or the size of an outline would show in an image's brightness.
    """
    light, dark = random.uniform(0.6, 1.0, 1, 1, 3), random.uniform(0.0, 0.35, 1, 1, 3)
    swapped = random.uniform(0, 1, 1, 1, 1) < 0.5
    backdrop = [random.uniform(0.3, 0.675, 1, 1, 3) for _ in range(2)]
    return np.stack([np.where(swapped, dark, light), np.where(swapped, light, dark), *backdrop], axis=1)


def _clouds(random: _Random, cells: int) -> Field:
    """Smooth noise in [0, 1): a coarse random grid, enlarged linearly."""
    grid = random.uniform(0, 1, cells + 1, cells + 1)
    place = (np.arange(IMAGE_SIZE, dtype=np.float32) + np.float32(0.5)) * np.float32(cells / IMAGE_SIZE)
    low = np.floor(place).astype(np.int64)
    part = place - low.astype(np.float32)
    rows = grid[:, low] * (1 - part)[:, None] + grid[:, low + 1] * part[:, None]
    return rows[:, :, low] * (1 - part) + rows[:, :, low + 1] * part


def _draw(labels: Int32[np.ndarray, " n"], random: _Random) -> UInt8[np.ndarray, "n s s 3"]:
    centre = (np.arange(IMAGE_SIZE, dtype=np.float32) - np.float32((IMAGE_SIZE - 1) / 2))[None]
    x, y = centre[:, None, :], -centre[:, :, None]
    colours = _colours(random)

    share = np.clip((_clouds(random, 3) + _clouds(random, 8) - 1) * random.uniform(1, 4) + np.float32(0.5), 0, 1)
    image = colours[:, 2] + (colours[:, 3] - colours[:, 2]) * share[..., None]
    for _ in range(2):  # bars across the backdrop
        cos, sin = random.direction()
        away = np.abs(x * cos + y * sin - random.uniform(-24, 24)) - random.uniform(0.5, 3)
        cover = np.clip(np.float32(0.5) - away, 0, 1) * random.uniform(0.2, 0.8)
        image += (random.uniform(0.1, 0.9, 1, 1, 3) - image) * cover[..., None]

    radius = random.uniform(0.36, 0.48) * np.float32(IMAGE_SIZE)
    free = (np.float32(IMAGE_SIZE / 2) - radius) * np.float32(0.9)
    dx, dy = x - free * random.uniform(-1, 1), y - free * random.uniform(-1, 1)
    cos, sin = random.tilt(0.4)
    u, v = (dx * cos + dy * sin) / radius, (dy * cos - dx * sin) / radius
    u = u * np.where(random.uniform(0, 1) < 0.5, np.float32(-1), np.float32(1))
    period = random.uniform(7, 11)
    cos, sin = random.direction()
    s, t = (dx * cos + dy * sin) / period + random.uniform(0, 1), (dy * cos - dx * sin) / period + random.uniform(0, 1)

    outline, pattern = np.empty_like(u), np.empty_like(s)
    for index, shape in enumerate(_SHAPES.values()):
        mine = labels // len(_PATTERNS) == index
        outline[mine] = shape(u[mine], v[mine])
    for index, texture in enumerate(_PATTERNS.values()):
        mine = labels % len(_PATTERNS) == index
        pattern[mine] = texture(s[mine], t[mine])
    cover = np.clip(np.float32(0.5) - outline * radius, 0, 1)
    share = np.clip(np.float32(0.5) + pattern * period * np.float32(0.25), 0, 1)
    body = colours[:, 0] + (colours[:, 1] - colours[:, 0]) * share[..., None]
    image += (body - image) * cover[..., None]

    cos, sin = random.direction()
    image *= (1 + random.uniform(0, 0.4) * (x * cos + y * sin) * np.float32(2 / IMAGE_SIZE))[..., None]
    grain = random.uniform(-1, 1, IMAGE_SIZE, IMAGE_SIZE, 3) + random.uniform(-1, 1, IMAGE_SIZE, IMAGE_SIZE, 3)
    image += grain * random.uniform(0.01, 0.06)[..., None]
    return np.floor(np.clip(image, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8)


def load_embedded(split: str) -> tuple[UInt8[np.ndarray, "n s s 3"], Int32[np.ndarray, " n"], tuple[str, ...]]:
    """Images uint8[n, 48, 48, 3], labels int32[n] and the 16 class names of split "train" (4096) or "validation" (1024).

    Every class has the same number of images. The arrays are drawn once a process and cannot be written to. Raises UserError for
    another split.
    """
    if split not in SPLITS:
        raise UserError(f"the embedded data set has no split {split!r}: choose one of {', '.join(SPLITS)}")
    return (*_draw_split(split), CLASSES)


@functools.cache
def _draw_split(split: str) -> tuple[UInt8[np.ndarray, "n s s 3"], Int32[np.ndarray, " n"]]:
    count, number = SPLITS[split], list(SPLITS).index(split)
    order = np.random.Generator(np.random.Philox(key=[_KEY, number])).permutation(count)
    labels = (order % len(CLASSES)).astype(np.int32)
    images = np.empty((count, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    for start in range(0, count, _CHUNK):
        part = labels[start : start + _CHUNK]
        stream = (number + 1) * 2**32 + start
        images[start : start + _CHUNK] = _draw(part, _Random(stream, len(part)))
    images.flags.writeable = labels.flags.writeable = False
    return images, labels
