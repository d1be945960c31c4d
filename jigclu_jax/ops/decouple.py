"""Decouples a montage's feature map into one vector a patch (paper section 3.2)."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jigclu_jax.errors import UserError


def decouple_size(grid: int, side: int) -> int:
    """The side to which a map of `side` cells is resized before it is pooled to grid x grid.

    8 for grid 2, whatever the side, as the authors do; otherwise the smallest multiple of `grid` that is >= 8 and >= `side`.
    """
    if grid == 2:
        return 8
    return grid * -(-max(8, side) // grid)


def resize_and_pool_matrix(side: int, size: int, grid: int) -> Float[np.ndarray, "grid side"]:
    """One axis of the bilinear resize side -> size (half-pixel centres, no anti-aliasing, edges repeated) and of the
    average over size / grid neighbours, as one matrix in float64. Rows sum to 1."""
    centre = np.maximum((np.arange(size) + 0.5) * side / size - 0.5, 0.0)
    low = np.minimum(centre.astype(np.int64), side - 1)
    high = np.minimum(low + 1, side - 1)
    share = centre - low
    resize = np.zeros((size, side))
    np.add.at(resize, (np.arange(size), low), 1.0 - share)
    np.add.at(resize, (np.arange(size), high), share)
    return resize.reshape(grid, size // grid, side).mean(axis=1)


def decouple(features: Float[Array, "b h w d"], grid: int, size: int = 0) -> Float[Array, "b m m d"]:
    """Bilinear resize to size x size and average pool to grid x grid, in float32 or better.

    `size` 0 takes `decouple_size` of each side. UserError when `size` is not a multiple of `grid`. Entry [i, r, k] is the
    patch in row r, column k of montage i. Source: paper section 3.2 and the authors' JigClu/jigclu.py.
    """
    if size and (size < 0 or size % grid):
        raise UserError(f"method.decouple_size={size}: must be a multiple of method.grid={grid}, or 0 for the default")
    height, width = features.shape[1:3]
    wide = jnp.promote_types(features.dtype, jnp.float32)
    rows = jnp.asarray(resize_and_pool_matrix(height, size or decouple_size(grid, height), grid), wide)
    columns = jnp.asarray(resize_and_pool_matrix(width, size or decouple_size(grid, width), grid), wide)
    return jnp.einsum("rh,bhwd,kw->brkd", rows, features.astype(wide), columns, precision=lax.Precision.HIGHEST)
