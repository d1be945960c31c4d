"""Memory layout of a resident data set: an image is one row of 32-bit words, in the order that the augmentation wants.

A TPU finds rows of words where they lie. Of an array uint8[n, side, side, 3] it makes a copy in another order at every step, as large
as the data set, because it keeps images innermost; of rows of bytes too, once they are longer than it takes in one piece.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int32, UInt8, UInt32

from jigclu_jax.device.mesh import DATA_AXIS

_LANES = 128  # words that a TPU takes at once: it would pad rows to a multiple of them anyway


def words_of(side: int) -> int:
    """Words of the row of an image of side x side pixels."""
    return -(-3 * side * side // (4 * _LANES)) * _LANES


def pack(image: UInt8[np.ndarray, "side side 3"]) -> UInt32[np.ndarray, " words"]:
    """The row of an image: its red plane, then green, then blue, in four equal parts, of which each word holds a byte."""
    words = words_of(image.shape[0])
    planes = np.zeros(4 * words, np.uint8)
    planes[: image.size] = image.transpose(2, 0, 1).reshape(-1)
    return np.ascontiguousarray(planes.reshape(4, words).T).view("<u4")[:, 0].astype(np.uint32)


def unpack(rows: UInt32[Array, "k words"], side: int) -> UInt8[Array, "k 3 side side"]:
    """The planes of the images."""
    planes = jnp.stack([rows >> shift & 0xFF for shift in (0, 8, 16, 24)], axis=1).astype(jnp.uint8)
    return planes.reshape(len(rows), -1)[:, : 3 * side * side].reshape(-1, 3, side, side)


def take(rows: UInt32[Array, "n words"], example: Int32[Array, " k"], mesh: Mesh) -> UInt32[Array, "k words"]:
    """Rows by number, to the device whose cells want them.

    The one exchange of a step: every device puts the wanted rows that it holds in their places, zeros elsewhere, and a
    reduce-scatter adds them up. On d devices each sends (d - 1) / d * k * words * 4 bytes; on one, nothing.
    """
    if mesh.size == 1:
        return jnp.take(rows, example, axis=0)

    def own(rows: Array, example: Array) -> Array:
        place = example - jax.lax.axis_index(DATA_AXIS) * rows.shape[0]
        here = (place >= 0) & (place < rows.shape[0])
        found = jnp.take(rows, jnp.where(here, place, 0), axis=0)
        found = jnp.where(here[:, None], found, jnp.zeros((), rows.dtype))
        return jax.lax.psum_scatter(found, DATA_AXIS, scatter_dimension=0, tiled=True)

    whole, split = PartitionSpec(), PartitionSpec(DATA_AXIS)
    example = jax.lax.with_sharding_constraint(example, NamedSharding(mesh, whole))
    return jax.shard_map(own, mesh=mesh, in_specs=(split, whole), out_specs=split)(rows, example)
