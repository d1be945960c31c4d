"""The clustering branch's loss: supervised contrastive over all patches of the global batch."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int


def clustering_loss(
    embeddings: Float[Array, "n d"], clusters: Int[Array, " n"], temperature: float, base_temperature: float
) -> Float[Array, ""]:
    """Mean over anchors i of -(T / T0) * mean over positives p of [s_ip / T - log sum over a != i of exp(s_ia / T)].

    s is the dot product of `embeddings` (unit rows), positives are the other rows with the anchor's cluster id (any
    integers), T is `temperature`, T0 `base_temperature`. A row that is alone in its cluster is no anchor but stays in the
    others' sums. Float32 or better. Unlike optax's `ntxent`, the other positives stay in the denominator.
    Source: paper equation 2 and the authors' JigClu/losses.py, which adds the factor T / T0.
    """
    wide = jnp.promote_types(embeddings.dtype, jnp.float32)
    embeddings = embeddings.astype(wide)
    similarity = jnp.matmul(embeddings, embeddings.T, precision=lax.Precision.HIGHEST) / temperature
    itself = jnp.eye(embeddings.shape[0], dtype=bool)
    positive = (clusters[:, None] == clusters[None, :]) & ~itself
    denominator = jax.nn.logsumexp(jnp.where(itself, -jnp.inf, similarity), axis=1)
    positives = positive.sum(axis=1)
    attraction = jnp.where(positive, similarity, 0.0).sum(axis=1) / jnp.maximum(positives, 1)
    anchor = positives > 0
    per_anchor = jnp.where(anchor, denominator - attraction, 0.0)
    return (temperature / base_temperature) * per_anchor.sum() / jnp.maximum(anchor.sum(), 1)


def retrieval_accuracy(embeddings: Float[Array, "n d"], clusters: Int[Array, " n"]) -> Float[Array, ""]:
    """Share of the rows whose nearest other row by cosine has the same cluster id, 0..1, float32.

    Chance is (cluster size - 1) / (n - 1). Of equally near rows the first counts.
    """
    embeddings = embeddings.astype(jnp.promote_types(embeddings.dtype, jnp.float32))
    lengths = jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(embeddings), axis=1, keepdims=True), 1e-24))
    unit = embeddings / lengths
    cosine = jnp.matmul(unit, unit.T, precision=lax.Precision.HIGHEST)
    nearest = jnp.argmax(jnp.where(jnp.eye(unit.shape[0], dtype=bool), -jnp.inf, cosine), axis=1)
    return jnp.mean(clusters[nearest] == clusters, dtype=jnp.float32)
