"""Splits montages into cells, and joins cells to montages."""

import jax.numpy as jnp
from jaxtyping import Array, Num, UInt8


def split_cells(montages: Num[Array, "b S S 3"], grid: int) -> Num[Array, "n p p 3"]:
    """[b, S, S, 3] -> its cells [b * m * m, p, p, 3] in row-major order, p = S / m; a batch that is sharded stays so."""
    b, size = montages.shape[:2]
    side = size // grid
    cells = montages.reshape(b, grid, side, grid, side, 3)
    return jnp.swapaxes(cells, 2, 3).reshape(b * grid * grid, side, side, 3)


def to_planes(patches: Num[Array, "n h w 3"]) -> Num[Array, "n 3 h w"]:
    """Colours apart, as `ops/colour.py` and `ops/crop.py` want them: a TPU pads the last axis to 128, whether it has 3 or 112 numbers."""
    return jnp.transpose(patches, (0, 3, 1, 2))


def from_planes(planes: Num[Array, "n 3 h w"]) -> Num[Array, "n h w 3"]:
    """The inverse of `to_planes`."""
    return jnp.transpose(planes, (0, 2, 3, 1))


def join_cells(cells: UInt8[Array, "n p p 3"], grid: int) -> UInt8[Array, "b S S 3"]:
    """The inverse of `split_cells`."""
    n, side = cells.shape[:2]
    rows = jnp.swapaxes(cells.reshape(n // (grid * grid), grid, grid, side, side, 3), 2, 3)
    return rows.reshape(n // (grid * grid), grid * side, grid * side, 3)
