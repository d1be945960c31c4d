"""Montages as batches of cells, and back."""

import jax.numpy as jnp
from jaxtyping import Array, Num, UInt8


def split_cells(montages: Num[Array, "b S S 3"], grid: int) -> Num[Array, "n p p 3"]:
    """[b, S, S, 3] -> its cells [b * m * m, p, p, 3] in row-major order, p = S / m; a batch that is sharded stays so."""
    b, size = montages.shape[:2]
    side = size // grid
    cells = montages.reshape(b, grid, side, grid, side, 3)
    return jnp.swapaxes(cells, 2, 3).reshape(b * grid * grid, side, side, 3)


def join_cells(cells: UInt8[Array, "n p p 3"], grid: int) -> UInt8[Array, "b S S 3"]:
    """The inverse of `split_cells`."""
    n, side = cells.shape[:2]
    rows = jnp.swapaxes(cells.reshape(n // (grid * grid), grid, grid, side, side, 3), 2, 3)
    return rows.reshape(n // (grid * grid), grid * side, grid * side, 3)
