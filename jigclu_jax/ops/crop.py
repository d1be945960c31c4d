"""Cuts and resizes crops on the accelerator: Pillow's anti-aliased bilinear resize as two small matrix products a patch."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float32, Int32, UInt8

_SNAP = 1024.0  # edges are rounded to 1 / 1024 pixel before they are rounded to pixels, so that a half stays a half in float32


def cell_boxes(
    width: Int32[Array, " n"], height: Int32[Array, " n"], location: Int32[Array, " n"], grid: int, overlap: float
) -> Int32[Array, "n 4"]:
    """(left, top, right, bottom) of the grid cell `location` of images of these sizes: `data/augment/boxes.py: patch_boxes` in `jnp`."""
    left, right = _span(width, location // grid, grid, overlap)
    top, bottom = _span(height, location % grid, grid, overlap)
    return jnp.stack([left, top, right, bottom], axis=1)


def _span(side: Int32[Array, " n"], index: Int32[Array, " n"], grid: int, overlap: float) -> tuple[Int32[Array, " n"], Int32[Array, " n"]]:
    reach = side * (overlap / (grid - 1)) if grid > 1 else 0.0
    low = jnp.maximum(index * side // grid - reach, 0.0)
    high = jnp.minimum((index + 1) * side // grid + reach, side)
    start, stop = (jnp.rint(jnp.rint(edge * _SNAP) / _SNAP).astype(jnp.int32) for edge in (low, high))
    start = jnp.minimum(start, side - 1)
    return start, jnp.maximum(stop, start + 1)


def resize_matrix(
    start: Float32[Array, " n"], stop: Float32[Array, " n"], size: int, side: int, flip: Bool[Array, " n"] | None = None
) -> Float32[Array, "n side size"]:
    """One axis of "crop start..stop, resize to `side`" for lines of `size` pixels, mirrored where `flip`; rows sum to 1.

    Pillow's BILINEAR: a triangle as wide as the reduction (at least one pixel), cut off at the crop's edges. Edges may lie between
    pixels. Source: Pillow's Resample.c.
    """
    place = jnp.arange(side, dtype=jnp.float32)[None]
    if flip is not None:
        place = jnp.where(flip[:, None], side - 1 - place, place)
    scale = ((stop - start) / side)[:, None]
    centre = start[:, None] + (place + 0.5) * scale
    pixel = jnp.arange(size, dtype=jnp.float32)
    inside = (pixel >= jnp.floor(start)[:, None]) & (pixel < jnp.ceil(stop)[:, None])
    distance = jnp.abs(pixel + 0.5 - centre[:, :, None]) / jnp.maximum(scale, 1.0)[:, :, None]
    weight = jnp.where(inside[:, None], jnp.maximum(1.0 - distance, 0.0), 0.0)
    return weight / weight.sum(axis=2, keepdims=True)


def crop_and_resize(
    images: UInt8[Array, "n 3 h w"], boxes: Float32[Array, "n 4"], side: int, flip: Bool[Array, " n"] | None = None
) -> UInt8[Array, "n 3 side side"]:
    """Cut box i, (left, top, right, bottom) in pixels, out of image i, resize it to side x side pixels, mirror it where `flip`.

    8-bit values after each axis, rows first, as in Pillow; float32 products.
    """
    height, width = images.shape[2:]
    across = resize_matrix(boxes[:, 0], boxes[:, 2], width, side, flip)
    down = resize_matrix(boxes[:, 1], boxes[:, 3], height, side)
    exact = lax.Precision.HIGHEST
    rows = jnp.floor(jnp.einsum("npx,ncyx->ncyp", across, images.astype(jnp.float32), precision=exact) + 0.5)
    return jnp.floor(jnp.einsum("nqy,ncyp->ncqp", down, rows, precision=exact) + 0.5).astype(jnp.uint8)
