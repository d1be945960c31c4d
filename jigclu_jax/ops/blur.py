"""Gaussian blur as Pillow computes it: three box filters along each axis, 8-bit values after each (BoxBlur.c)."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float32

PASSES = 3


def blur(planes: Float32[Array, "n c h w"], sigma: Float32[Array, " n"], most: float) -> Float32[Array, "n c h w"]:
    """Blurs whole-numbered planes with a standard deviation in pixels of their own, at most `most`; 0 leaves them as they are.

    The box is a handful of shifted additions, which an accelerator fuses into one pass over memory.
    """
    weights = box_weights(sigma, reach(most))
    for axis in (3, 2):  # Pillow filters along rows first
        for _ in range(PASSES):
            planes = _box(planes, weights, axis)
    return planes


def reach(most: float) -> int:
    """Neighbours on each side that a box filter of one pass touches, in pixels, for the largest sigma."""
    return int((math.sqrt(12 * most * most / PASSES + 1) - 1) / 2 + 1e-6) + 1


def box_weights(sigma: Float32[Array, " n"], reach: int) -> Float32[Array, "n t"]:
    """Weights of one pass at offsets -reach..reach: the extended box filter of Gwosdek et al. 2011, multiples of 2 ** -16 with sum 1.

    Sums of 8-bit values are then exact in float32, in whatever order they are added; Pillow's weights are multiples of 2 ** -24.
    """
    variance = sigma * sigma / PASSES
    whole = jnp.floor((jnp.sqrt(12.0 * variance + 1.0) - 1.0) / 2.0)
    fraction = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) ** 2))
    exact = 2.0**16 / (2.0 * (whole + fraction) + 1.0)
    outer = jnp.floor((2.0**16 - (2.0 * whole + 1.0) * exact) / 2.0)
    inner = jnp.round((2.0**16 - 2.0 * outer) / (2.0 * whole + 1.0))
    centre = 2.0**16 - 2.0 * outer - 2.0 * whole * inner
    distance = jnp.abs(jnp.arange(-reach, reach + 1, dtype=jnp.float32))[None]
    whole, outer, inner, centre = (x[:, None] for x in (whole, outer, inner, centre))
    weights = jnp.where(distance <= whole, inner, jnp.where(distance <= whole + 1, outer, 0.0))
    return jnp.where(distance == 0, centre, weights) / 2.0**16


def _box(planes: Float32[Array, "n c h w"], weights: Float32[Array, "n t"], axis: int) -> Float32[Array, "n c h w"]:
    taps, side = weights.shape[1], planes.shape[axis]
    margins = [(0, 0)] * 4
    margins[axis] = (taps // 2, taps // 2)
    wide = jnp.pad(planes, margins, mode="edge")
    total = jnp.zeros_like(planes)
    for tap in range(taps):
        index = [slice(None)] * 4
        index[axis] = slice(tap, tap + side)
        total += weights[:, tap, None, None, None] * wide[tuple(index)]
    # halves go down: they are frequent at a sigma like 1 (weights in sixths), and Pillow's weights fall short of 1 in the last bit
    return jnp.floor(total + (0.5 - 2.0**-13))
