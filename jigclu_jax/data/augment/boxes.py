"""Boxes of the m x m regions of an image, and the sizes and overlaps that make sense."""

from typing import Any

import numpy as np
from jaxtyping import Int32

from jigclu_jax.errors import UserError


def patch_side(image_size: int, grid: int) -> int:
    """Side of a patch in pixels, montage side / m; UserError where m does not divide it."""
    if grid < 1:
        raise UserError(f"method.grid={grid} is not a number of patches a side: set it to 2 or more")
    if image_size < grid:
        raise UserError(f"data.image_size={image_size} leaves no pixel for {grid} patches a side: set it to {grid} or more")
    if image_size % grid:
        below = image_size - image_size % grid
        raise UserError(
            f"data.image_size={image_size} is not a multiple of method.grid={grid}: the nearest that are, are {below} and {below + grid}"
        )
    return image_size // grid


def check_overlap(grid: int, overlap: float) -> None:
    """UserError for an overlap below 0, or beyond the one from which on every crop is the whole image (for m = 2: 0.5)."""
    limit = (grid - 1) ** 2 / grid
    if not 0 <= overlap <= limit:
        raise UserError(
            f"method.overlap={overlap:g} is outside of [0, {limit:g}] for method.grid={grid}:"
            " there every crop is the whole image already; the paper uses 0.3"
        )


def patch_boxes(width: int, height: int, grid: int, overlap: float) -> Int32[np.ndarray, "k 4"]:
    """(left, top, right, bottom) in pixels of the m * m overlapping crops, in location order (location = column * m + row).

    A crop is its plain grid cell (edges at floor(i * side / m)) reaching overlap / (m - 1) of the image's side into its
    neighbours, clipped to the image and rounded half to even as Pillow's crop rounds (authors' code, m = 2: edges at
    floor(side / 2) -+ overlap * side). Every box keeps at least one pixel.
    """
    columns, rows = _spans(width, grid, overlap), _spans(height, grid, overlap)
    boxes = [(left, top, right, bottom) for left, right in columns for top, bottom in rows]
    return np.array(boxes, np.int32)


def mirrored(location: Int32[Any, "*c"], grid: int) -> Int32[Any, "*c"]:
    """The regions that lie where these do in the mirrored image; a location is column * grid + row."""
    return (grid - 1 - location // grid) * grid + location % grid


def _spans(side: int, grid: int, overlap: float) -> list[tuple[int, int]]:
    reach = side * overlap / (grid - 1) if grid > 1 else 0.0
    spans = []
    for i in range(grid):
        start = round(max(i * side // grid - reach, 0))
        stop = round(min((i + 1) * side // grid + reach, side))
        start = min(start, side - 1)
        spans.append((start, max(stop, start + 1)))
    return spans
