"""Lays the rows of a host's array over all devices, and visits each device's rows in blocks, so that temporaries stay small."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float

from jigclu_jax.device.mesh import DATA_AXIS

NUMBERS = 2**24  # of one temporary array [rows of a block, columns]: 64 MiB in float32

Carry = TypeVar("Carry")


def lay_out(x: Float[np.ndarray, "n d"], columns: int, mesh: Mesh) -> Float[Array, "blocks rows d"]:
    """The rows in their order, in blocks split over the devices; rows of zeros fill up the end.

    Args:
      x: the same on every process.
      columns: of the table that is made of each block; it decides how many rows a block has.
      mesh: of all devices.
    """
    own = -(-len(x) // mesh.size)
    blocks = -(-own // max(NUMBERS // columns, 1))
    rows = -(-own // blocks)
    shape = (mesh.size * blocks, rows, x.shape[1])

    def part(index: tuple[slice, ...] | None) -> np.ndarray:
        assert index is not None
        first, last, _ = index[0].indices(shape[0])
        found = x[first * rows : last * rows]
        missing = (last - first) * rows - len(found)
        return np.concatenate([found, np.zeros((missing, shape[2]), x.dtype)]).reshape(-1, *shape[1:])

    return jax.make_array_from_callback(shape, NamedSharding(mesh, PartitionSpec(DATA_AXIS)), part)


def visit_rows(
    visit: Callable[[Carry, Float[Array, "rows d"], Bool[Array, " rows"]], tuple[Carry, Any]],
    start: Carry,
    blocks: Float[Array, "blocks rows d"],
    count: Any,
) -> tuple[Carry, Any]:
    """Within `by_device`: fold `visit(carry, rows, counted)` over this device's blocks; its second results are stacked.

    Args:
      visit: `counted` is False where rows only fill up the end.
      start: the carry before the first block.
      blocks: this device's part of what `lay_out` made.
      count: rows there are on all devices together.
    """
    rows = blocks.shape[1]
    first = jax.lax.axis_index(DATA_AXIS) * len(blocks)

    def turn(carry: Carry, block: tuple[Array, Array]) -> tuple[Carry, Any]:
        counted = (first + block[0]) * rows + jnp.arange(rows) < count
        return visit(carry, block[1], counted)

    return jax.lax.scan(turn, start, (jnp.arange(len(blocks)), blocks))


def by_device(compute: Callable[..., Any], mesh: Mesh, out_specs: Any, whole: int) -> Callable[..., Any]:
    """`compute(blocks, ...)` on each device with its own blocks and with `whole` arguments that every device has.

    Results lie as `out_specs` says: `SPLIT` for one of each row or block, `WHOLE` for what `psum` has made the same on all devices.
    """
    return jax.shard_map(compute, mesh=mesh, in_specs=(SPLIT, *[WHOLE] * whole), out_specs=out_specs, check_vma=False)


SPLIT, WHOLE = PartitionSpec(DATA_AXIS), PartitionSpec()
