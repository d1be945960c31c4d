"""A look at a set of images before it is used: what it consists of, and whether its pictures are pictures."""

import time
from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8

from jigclu_jax.data.sources.opening import Source, innermost
from jigclu_jax.errors import ImageError, UnknownWhite, counted, first_few

_SAMPLE = 64  # images looked at, spread over the set
_SECONDS = 5.0  # at most: large images, or a remote folder
_PIXELS = 256  # a side: every n-th pixel of larger images
_FEW = 16  # values of 256
_FLAT = 3  # difference between the largest and the smallest value of a picture of one colour
_DARK, _BRIGHT = 32, 223


def summary(source: Source) -> str:
    """The first line about a set: images, files, classes, what was passed over and why."""
    inner = innermost(source)
    files = getattr(inner, "files_seen", len(inner))
    of_files = f" of {counted(files, 'file')}" if files != len(source) else ""
    parts = [f"{counted(len(source), 'image')}{of_files} in {source.name}"]
    parts.append(f"{counted(len(source.classes), 'class')} ({first_few(source.classes)})" if source.classes else "no labels")
    if passed := getattr(inner, "passed_over", ""):
        parts.append(f"passed over: {passed}")
    return "; ".join(parts)


def oddities(source: Source, seconds: float = _SECONDS) -> list[str]:
    """What a person should know before training on a set: few values, nearly black, white or constant pictures; a line each.

    Looks at 64 images, or as many as can be read in `seconds`. Images that cannot be used are left to those who read them all.

    Raises:
      UnknownWhite: the files leave open which sample is white.
    """
    counts, flat, read = np.zeros(256, np.int64), 0, 0
    for image in _looked_at(source, seconds):
        image = image[:: max(image.shape[0] // _PIXELS, 1), :: max(image.shape[1] // _PIXELS, 1)]
        counts += np.bincount(image.ravel(), minlength=256)
        flat += int(np.ptp(image.reshape(-1, 3), axis=0).max()) <= _FLAT
        read += 1
    return _found(counts, flat, read) if read else []


def usual_side(source: Source, seconds: float = _SECONDS) -> int:
    """The median of the images' shorter sides in pixels, of those that `oddities` looks at; 0 where none can be read.

    Raises:
      UnknownWhite: the files leave open which sample is white.
    """
    sides = [min(image.shape[:2]) for image in _looked_at(source, seconds)]
    return int(np.median(sides)) if sides else 0


def _looked_at(source: Source, seconds: float) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    deadline = time.monotonic() + seconds
    for index in np.unique(np.linspace(0, len(source) - 1, _SAMPLE, dtype=np.int64)):
        if time.monotonic() > deadline:
            break
        try:
            yield source.read(int(index))
        except UnknownWhite:
            raise
        except ImageError:
            continue


def _found(counts: np.ndarray, flat: int, read: int) -> list[str]:
    values = np.flatnonzero(counts)
    shares = np.cumsum(counts) / counts.sum()
    bulk = [int(np.searchsorted(shares, share)) for share in (0.001, 0.999)]
    looked = f"{counted(read, 'image')} looked at:"
    advice = "look at the files; where they hold fewer bits than they say, set data.white"
    if 2 * flat > read:
        return [f"of {counted(read, 'image')} looked at, {flat} of one colour only: {advice}"]
    if bulk[1] <= _DARK:
        return [f"{looked} nearly black (99.9 % of their values are at most {bulk[1]} of 255): {advice}"]
    if bulk[0] >= _BRIGHT:
        return [f"{looked} nearly white (99.9 % of their values are at least {bulk[0]} of 255): {advice}"]
    if len(values) <= _FEW:
        return [f"{looked} {counted(len(values), 'value')} only, from {values[0]} to {values[-1]} of 255: are these masks? {advice}"]
    return []
