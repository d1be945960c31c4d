"""Gaussian blur as Pillow computes it: three box filters along each axis, 8-bit values after each (BoxBlur.c)."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, UInt8

PASSES = 3


def blur(planes: UInt8[Array, "n c h w"], sigma: Float32[Array, " n"], most: float) -> UInt8[Array, "n c h w"]:
    """Blurs planes with a standard deviation in pixels of their own, at most `most`; 0 leaves them as they are.

    A pass of the box is a handful of shifted additions, which XLA fuses into one pass over memory.
    """
    weights = box_weights(sigma, reach(most))
    # without barriers XLA may fuse a pass with what is before it, and compute a pixel again for each neighbour that looks at it
    planes = jax.lax.optimization_barrier(planes)
    for axis in (3, 2):  # Pillow filters along rows first
        for _ in range(PASSES):
            planes = jax.lax.optimization_barrier(_box(planes, weights, axis))
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


def _box(planes: UInt8[Array, "n c h w"], weights: Float32[Array, "n t"], axis: int) -> UInt8[Array, "n c h w"]:
    """One pass; beyond the edge the outermost pixel goes on. Only the ends are padded: the middle is summed where it lies."""
    reach, side = weights.shape[1] // 2, planes.shape[axis]
    if side <= 2 * reach:
        return _weighted(_padded(planes, reach, reach, axis), weights, axis)
    first = _padded(jax.lax.slice_in_dim(planes, 0, 2 * reach, axis=axis), reach, 0, axis)
    last = _padded(jax.lax.slice_in_dim(planes, side - 2 * reach, side, axis=axis), 0, reach, axis)
    return jnp.concatenate([_weighted(part, weights, axis) for part in (first, planes, last)], axis)


def _padded(planes: UInt8[Array, "n c h w"], before: int, after: int, axis: int) -> UInt8[Array, "n c h2 w2"]:
    return jnp.pad(planes, [(before, after) if i == axis else (0, 0) for i in range(4)], mode="edge")


def _weighted(wide: UInt8[Array, "n c h w"], weights: Float32[Array, "n t"], axis: int) -> UInt8[Array, "n c h2 w2"]:
    """The weighted sums of all pixels that have their neighbours on both sides, rounded."""
    taps = weights.shape[1]
    size = wide.shape[axis] - (taps - 1)
    total = jnp.zeros((), weights.dtype)
    for tap in range(taps):
        total = total + weights[:, tap, None, None, None] * jax.lax.slice_in_dim(wide, tap, tap + size, axis=axis).astype(jnp.float32)
    # halves go down: they are frequent at a sigma like 1 (weights in sixths), and Pillow's weights fall short of 1 in the last bit
    return jnp.floor(total + (0.5 - 2.0**-13)).astype(jnp.uint8)
