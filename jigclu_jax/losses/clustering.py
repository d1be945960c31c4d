"""Clustering loss: supervised contrastive over all patches of the global batch, in memory linear in their number."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from jigclu_jax.device.mesh import everywhere, row_by_row
from jigclu_jax.losses.pairs import Rows, dot_products, over_blocks, positives, rows_and_keys


def clustering_loss(
    embeddings: Float[Array, "n d"], clusters: Int[Array, " n"], temperature: float, base_temperature: float, *, decoupled: bool = False
) -> Float[Array, ""]:
    """Mean over anchors i of -(T / T0) * mean over positives p of [s_ip / T - log sum over a != i of exp(s_ia / T)].

    s is the dot product of `embeddings` (unit rows), positives are the other rows with the anchor's cluster id (any
    integers), T is `temperature`, T0 `base_temperature`. A row that is alone in its cluster is no anchor but stays in the
    others' sums. Float32 or better. Unlike optax's `ntxent`, the other positives stay in the denominator;
    `decoupled` leaves all of them out, and a row without negatives is no anchor.

    The n x n similarities are visited in blocks and held neither here nor for the derivative, which is by `embeddings` and in
    reverse mode (a second derivative would hold them). Under a mesh each device keeps its rows as anchors and receives all
    embeddings once.
    Source: paper equation 2 and the authors' JigClu/losses.py, which adds the factor T / T0; decoupled: Yeh et al. 2022, "Decoupled
    contrastive learning", equation 6.
    """
    wide = jnp.promote_types(embeddings.dtype, jnp.float32)
    return (temperature / base_temperature) * _loss(embeddings.astype(wide), clusters, temperature, decoupled)


class _Kept(NamedTuple):
    """What the derivative needs of the forward pass. `denominator` is that of anchors, infinite for other rows."""

    rows: Rows
    keys: Rows
    denominator: Float[Array, " n"]
    positive_count: Float[Array, " n"]
    anchors: Float[Array, ""]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _loss(embeddings: Float[Array, "n d"], clusters: Int[Array, " n"], temperature: float, decoupled: bool) -> Float[Array, ""]:
    return _forward(embeddings, clusters, temperature, decoupled)[0]


def _forward(
    embeddings: Float[Array, "n d"], clusters: Int[Array, " n"], temperature: float, decoupled: bool
) -> tuple[Float[Array, ""], _Kept]:
    rows, keys = rows_and_keys(embeddings, clusters)
    scaled = _over(rows, temperature)

    def visit(sums: tuple[Array, Array, Array], block: Rows) -> tuple[Array, Array, Array]:
        denominator, attraction, count = sums
        similarity, positive = dot_products(scaled, block), positives(rows, block)
        in_denominator = jnp.where(positive, -jnp.inf, similarity) if decoupled else similarity
        return (
            jnp.logaddexp(denominator, jax.nn.logsumexp(in_denominator, axis=1)),
            attraction + jnp.where(positive, similarity, 0.0).sum(axis=1),
            count + positive.sum(axis=1, dtype=count.dtype),
        )

    nothing = jnp.zeros(len(embeddings), embeddings.dtype)
    denominator, attraction, count = over_blocks(visit, (nothing - jnp.inf, nothing, nothing), keys)
    anchor = (count > 0) & (denominator > -jnp.inf) if decoupled else count > 0
    anchors = jnp.maximum(anchor.sum(dtype=embeddings.dtype), 1)
    per_anchor = jnp.where(anchor, denominator - attraction / jnp.maximum(count, 1), 0.0)
    return per_anchor.sum() / anchors, _Kept(rows, keys, jnp.where(anchor, denominator, jnp.inf), count, anchors)


def _backward(temperature: float, decoupled: bool, kept: _Kept, cotangent: Float[Array, ""]) -> tuple[Float[Array, "n d"], None]:
    """Row i of the gradient: 1 / (T * anchors) * sum over j of (w_ij + w_ji) e_j, with w_ij = softmax_ij - positive_ij / |P(i)|.

    Both w follow from s_ij, which is s_ji, and the denominators of i and j: a row needs the others' embeddings and
    denominators, never their gradients. |P(i)| = |P(j)| where a pair is positive; a row that is no anchor has no softmax.
    """
    rows, scaled = kept.rows, _over(kept.rows, temperature)
    pull = jnp.where(jnp.isinf(kept.denominator), 0.0, 2 / jnp.maximum(kept.positive_count, 1))[:, None]

    def visit(gradient: Array, block: tuple[Rows, Array]) -> Array:
        keys, denominator = block
        similarity = dot_products(scaled, keys)
        softmax = jnp.exp(similarity - kept.denominator[:, None]) + jnp.exp(similarity - denominator)
        positive = positives(rows, keys)
        weight = jnp.where(positive, -pull if decoupled else softmax - pull, softmax)
        return gradient + jnp.matmul(weight, keys.embedding, precision=lax.Precision.HIGHEST)

    # first split and then whole: what is sent is this vector, not the ones that it is made of
    denominators = everywhere(row_by_row(kept.denominator))
    gradient = over_blocks(visit, jnp.zeros_like(rows.embedding), (kept.keys, denominators))
    return cotangent / (temperature * kept.anchors) * gradient, None


_loss.defvjp(_forward, _backward)


def _over(rows: Rows, temperature: float) -> Rows:
    return rows._replace(embedding=rows.embedding / temperature)
