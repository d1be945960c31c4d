"""k-means of the rows of a whole data set, on all devices: Lloyd's iterations, with clusters that become empty filled from large ones."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int32, Num

from jigclu_jax.device.mesh import replicated
from jigclu_jax.pseudo_labels.blocks import DATA_AXIS, SPLIT, WHOLE, by_device, lay_out, visit_rows

_NUDGE = 1 / 1024  # by which both halves of a cluster that was split move apart
_EXACT = jax.lax.Precision.HIGHEST


@dataclasses.dataclass(frozen=True)
class Clustering:
    """Result of k-means.

    Attributes:
      labels: the nearest centroid of each row.
      centroids: after the last iteration.
      losses: sum of squared distances to the nearest centroid, before each iteration and after the last.
    """

    labels: Int32[np.ndarray, " n"]
    centroids: Float[np.ndarray, "k d"]
    losses: tuple[float, ...]


def kmeans(x: Float[np.ndarray, "n d"], start: Float[np.ndarray, "k d"], mesh: Mesh, iterations: int = 20) -> Clustering:
    """Lloyd's algorithm from the centroids `start`; ties go to the first centroid.

    Distances are computed in blocks of rows, and sums over a cluster as products of matrices, so that a run is determined to the bit on any
    hardware. After each iteration a centroid without rows takes the place of the one with the most, and both move a little apart along
    alternate axes, as faiss does (it draws which). It ends early where nothing changes. The last labels may leave a cluster empty.
    """
    k = len(start)
    blocks, centroids, losses = lay_out(x, k, mesh), start, []
    for turn in range(iterations + 1):
        found = _assigned(blocks, centroids, len(x), mesh)
        labels, sums, sizes, loss = (np.asarray(value) for value in found)
        losses.append(float(loss))
        if turn == iterations:
            break
        moved = split_largest(sums / np.maximum(sizes, 1)[:, None], sizes).astype(x.dtype)
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    return Clustering(labels.reshape(-1)[: len(x)].astype(np.int32), centroids, tuple(losses))


def split_largest(centroids: Float[np.ndarray, "k d"], sizes: Num[np.ndarray, " k"]) -> Float[np.ndarray, "k d"]:
    """The centroids, where each of a cluster of size 0 is put beside that of the largest, which counts as two halves from then on."""
    centroids, sizes = centroids.copy(), sizes.astype(np.float64)
    nudge = np.where(np.arange(centroids.shape[1]) % 2, 1 - _NUDGE, 1 + _NUDGE)
    for empty in np.flatnonzero(sizes == 0):
        largest = int(sizes.argmax())
        centroids[empty] = centroids[largest] * nudge
        centroids[largest] *= 2 - nudge
        sizes[empty] = sizes[largest] = sizes[largest] / 2
    return centroids


@functools.partial(jax.jit, static_argnames="mesh")
def _assigned(blocks: Float[Array, "blocks rows d"], centroids: Float[Array, "k d"], count: Any, mesh: Mesh) -> tuple[Array, ...]:
    """Labels int32[blocks, rows], and of each cluster the sum of its rows and their number; the sum of squared distances."""

    def compute(blocks: Array, centroids: Array, count: Array) -> tuple[Array, ...]:
        k, halves = len(centroids), jnp.square(centroids).sum(axis=1) / 2

        def visit(carry: tuple[Array, Array, Array], rows: Array, counted: Array) -> tuple[tuple[Array, Array, Array], Array]:
            sums, sizes, loss = carry
            distances = halves - jnp.matmul(rows, centroids.T, precision=_EXACT)  # half of the square, less that of the row's length
            label = jnp.argmin(distances, axis=1)
            nearest = 2 * jnp.min(distances, axis=1) + jnp.square(rows).sum(axis=1)
            members = ((label[:, None] == jnp.arange(k)) & counted[:, None]).astype(rows.dtype)
            sums = sums + jnp.matmul(members.T, rows, precision=_EXACT)
            return (sums, sizes + members.sum(axis=0), loss + jnp.where(counted, jnp.maximum(nearest, 0), 0).sum()), label.astype(jnp.int32)

        zero = jnp.zeros((), blocks.dtype)
        start = (jnp.zeros_like(centroids), jnp.zeros(k, blocks.dtype), zero)
        totals, labels = visit_rows(visit, start, blocks, count)
        return labels, *jax.lax.psum(totals, DATA_AXIS)

    labels, *totals = by_device(compute, mesh, (SPLIT, WHOLE, WHOLE, WHOLE), whole=2)(blocks, centroids, count)
    return jax.lax.with_sharding_constraint(labels, replicated(mesh)), *totals
