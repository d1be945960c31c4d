"""Whitened principal components of features, of unit length: what DeepCluster clusters."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from jigclu_jax.device.mesh import replicated
from jigclu_jax.ops.unit_length import unit_length
from jigclu_jax.pseudo_labels.blocks import DATA_AXIS, SPLIT, WHOLE, by_device, lay_out, visit_rows

# Components of less than that fraction of the largest variance, or of the mean's square, are rounding of float32: they are left out.
_FLAT, _ROUNDING = 1e-6, 1e-12
_EXACT = jax.lax.Precision.HIGHEST


def whitened(x: Float[np.ndarray, "n d"], dim: int, mesh: Mesh) -> Float[np.ndarray, "n e"]:
    """The first e <= dim principal components, each divided by its standard deviation; then every row divided by its length.

    The covariance is summed up on the devices, its eigenvectors are computed on the host in float64; of each the coefficient that is
    largest in absolute value is positive, so that the result is determined. Components without variance are left out; where no
    component has any, as of features that are all the same, the result is one column of zeros.

    Source: Caron et al. 2018, section 4.2 and `clustering.py: preprocess_features` of the authors' code (faiss's PCAMatrix with
    eigen_power -0.5, then L2).
    """
    mean = x.mean(axis=0, dtype=np.float64)
    blocks, centre = lay_out(x, x.shape[1], mesh), mean.astype(x.dtype)
    products = np.asarray(_products(blocks, centre, len(x), mesh), np.float64)
    values, vectors = np.linalg.eigh(products / len(x))
    values, vectors = values[::-1][:dim], vectors[:, ::-1][:, :dim]
    kept = values > max(_FLAT * values[0], _ROUNDING * np.square(mean).max())
    if not kept.any():
        return np.zeros((len(x), 1), x.dtype)
    values, vectors = values[kept], vectors[:, kept]
    largest = np.abs(vectors).argmax(axis=0)
    vectors = vectors * np.sign(vectors[largest, np.arange(len(largest))])
    found = _projected(blocks, centre, (vectors / np.sqrt(values)).astype(x.dtype), mesh)
    return np.asarray(found).reshape(-1, found.shape[-1])[: len(x)]


@functools.partial(jax.jit, static_argnames="mesh")
def _products(blocks: Float[Array, "blocks rows d"], mean: Float[Array, " d"], count: Any, mesh: Mesh) -> Float[Array, "d d"]:
    def compute(blocks: Array, mean: Array, count: Array) -> Array:
        def visit(total: Array, rows: Array, counted: Array) -> tuple[Array, None]:
            rows = jnp.where(counted[:, None], rows - mean, 0)
            return total + jnp.matmul(rows.T, rows, precision=_EXACT), None

        size = blocks.shape[2]
        return jax.lax.psum(visit_rows(visit, jnp.zeros((size, size), blocks.dtype), blocks, count)[0], DATA_AXIS)

    return by_device(compute, mesh, WHOLE, whole=2)(blocks, mean, count)


@functools.partial(jax.jit, static_argnames="mesh")
def _projected(
    blocks: Float[Array, "blocks rows d"], mean: Float[Array, " d"], projection: Float[Array, "d e"], mesh: Mesh
) -> Float[Array, "blocks rows e"]:
    def compute(blocks: Array, mean: Array, projection: Array) -> Array:
        def visit(_: tuple[()], rows: Array, counted: Array) -> tuple[tuple[()], Array]:
            return (), unit_length(jnp.matmul(rows - mean, projection, precision=_EXACT))

        return visit_rows(visit, (), blocks, 0)[1]

    found = by_device(compute, mesh, SPLIT, whole=2)(blocks, mean, projection)
    return jax.lax.with_sharding_constraint(found, replicated(mesh))
