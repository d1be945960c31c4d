"""Labels of equal shares by optimal transport: Sinkhorn-Knopp in the log domain, on all devices."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int32

from jigclu_jax.device.mesh import replicated
from jigclu_jax.pseudo_labels.blocks import DATA_AXIS, SPLIT, WHOLE, by_device, lay_out, visit_rows

TOLERANCE = 1e-3  # largest relative difference of a cluster's mass from 1 / k
_MOST = 2000  # iterations
_EXACT = jax.lax.Precision.HIGHEST


@dataclasses.dataclass(frozen=True)
class Balanced:
    """Result of a balanced assignment.

    Attributes:
      labels: the cluster that takes the most of each row.
      potentials: log of each cluster's factor; the plan is exp(sharpness * (x - mean of x) @ kernel + potentials), with every row scaled to
        the sum 1 / n.
      error: largest relative difference of a cluster's mass from 1 / k; above `TOLERANCE` only where the iterations ran out.
      iterations: made.
    """

    labels: Int32[np.ndarray, " n"]
    potentials: Float[np.ndarray, " k"]
    error: float
    iterations: int


def balanced_labels(x: Float[np.ndarray, "n d"], kernel: Float[np.ndarray, "d k"], sharpness: float, mesh: Mesh) -> Balanced:
    """The transport plan of mass 1 / n a row and 1 / k a cluster nearest to softmax(x @ kernel) ** sharpness, and its labels.

    The plan is diag(a) softmax(x @ kernel) ** sharpness diag(b). Everything is kept as a logarithm: float32 has no number for the 25th
    power of a small probability. What is added to all scores of a row, or of a cluster, changes no plan, so that neither the softmax's
    denominator nor a bias is wanted; features are centred first, which keeps the scores small. The scores are split over the devices
    by rows (n * k float32 together), the rest is done in blocks.

    Source: Asano et al. 2020, "Self-labelling via simultaneous clustering and representation learning", section 3.1, and Cuturi 2013.
    The authors stop when the sum of the rows' changes is below 0.1, checked every tenth iteration; here it is by the masses.
    """
    mean = x.mean(axis=0, dtype=np.float64).astype(x.dtype)
    scores = _scores(lay_out(x, kernel.shape[1], mesh), mean, np.asarray(kernel, x.dtype), np.asarray(sharpness, x.dtype), mesh)
    labels, potentials, error, iterations = (np.asarray(value) for value in _balanced(scores, len(x), mesh))
    return Balanced(labels.reshape(-1)[: len(x)], potentials, float(error), int(iterations))


@functools.partial(jax.jit, static_argnames="mesh")
def _scores(
    blocks: Float[Array, "blocks rows d"], mean: Array, kernel: Array, sharpness: Array, mesh: Mesh
) -> Float[Array, "blocks rows k"]:
    """Log of the unnormalised plan, the largest of each row 0."""

    def compute(blocks: Array, mean: Array, kernel: Array, sharpness: Array) -> Array:
        def visit(_: tuple[()], rows: Array, counted: Array) -> tuple[tuple[()], Array]:
            scores = sharpness * jnp.matmul(rows - mean, kernel, precision=_EXACT)
            return (), scores - scores.max(axis=1, keepdims=True)

        return visit_rows(visit, (), blocks, 0)[1]

    return by_device(compute, mesh, SPLIT, whole=3)(blocks, mean, kernel, sharpness)


@functools.partial(jax.jit, static_argnames="mesh")
def _balanced(scores: Float[Array, "blocks rows k"], count: Any, mesh: Mesh) -> tuple[Array, ...]:
    """Labels int32[blocks, rows], potentials [k], error and number of iterations."""
    k = scores.shape[2]

    def compute(scores: Array, count: Array) -> tuple[Array, ...]:
        lowest = jnp.finfo(scores.dtype).min

        def masses(potentials: Array) -> Array:
            """Log of what each cluster gets, less its potential, when the rows' masses are right."""

            def visit(carry: tuple[Array, Array], rows: Array, counted: Array) -> tuple[tuple[Array, Array], None]:
                top, total = carry
                factor = -jnp.log(count.astype(rows.dtype)) - jax.nn.logsumexp(rows + potentials, axis=1)
                parts = rows + jnp.where(counted, factor, -jnp.inf)[:, None]
                higher = jnp.maximum(top, parts.max(axis=0))
                return (higher, total * jnp.exp(top - higher) + jnp.exp(parts - higher).sum(axis=0)), None

            start = jnp.full(k, lowest, scores.dtype), jnp.zeros(k, scores.dtype)
            (top, total), _ = visit_rows(visit, start, scores, count)
            highest = jax.lax.pmax(top, DATA_AXIS)
            return highest + jnp.log(jax.lax.psum(total * jnp.exp(top - highest), DATA_AXIS))

        def error(potentials: Array, mass: Array) -> Array:
            return jnp.abs(jnp.exp(mass + potentials + math.log(k)) - 1).max()

        def turn(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            _, mass, number = carry
            potentials = -math.log(k) - mass
            return potentials, masses(potentials), number + 1

        def goes_on(carry: tuple[Array, Array, Array]) -> Array:
            potentials, mass, number = carry
            return (error(potentials, mass) > TOLERANCE) & (number < _MOST)

        flat = jnp.zeros(k, scores.dtype)
        potentials, mass, number = jax.lax.while_loop(goes_on, turn, (flat, masses(flat), jnp.zeros((), jnp.int32)))

        def label(_: tuple[()], rows: Array, counted: Array) -> tuple[tuple[()], Array]:
            return (), jnp.argmax(rows + potentials, axis=1).astype(jnp.int32)

        labels = visit_rows(label, (), scores, count)[1]
        return labels, potentials, error(potentials, mass), number

    labels, *rest = by_device(compute, mesh, (SPLIT, WHOLE, WHOLE, WHOLE), whole=1)(scores, jnp.asarray(count))
    return jax.lax.with_sharding_constraint(labels, replicated(mesh)), *rest
