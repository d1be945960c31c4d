"""Retrieval accuracy: how often the nearest other patch is one of the same image."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jigclu_jax.losses.pairs import Rows, dot_products, over_blocks, rows_and_keys
from jigclu_jax.ops.unit_length import unit_length


def retrieval_accuracy(embeddings: Float[Array, "n d"], clusters: Int[Array, " n"]) -> Float[Array, ""]:
    """Fraction of the rows whose nearest other row by cosine has the same cluster id, 0..1, float32.

    Chance is (cluster size - 1) / (n - 1). Of equally near rows the first counts. The n x n cosines are visited in blocks.
    """
    embeddings = embeddings.astype(jnp.promote_types(embeddings.dtype, jnp.float32))
    # made unit length after the exchange, so that the array exchanged is the clustering loss's own
    rows, keys = (side._replace(embedding=unit_length(side.embedding)) for side in rows_and_keys(embeddings, clusters))

    def visit(best: tuple[Array, Array], block: Rows) -> tuple[Array, Array]:
        cosine, cluster = best
        cosines = dot_products(rows, block)
        highest, where = cosines.max(axis=1), jnp.argmax(cosines, axis=1)
        nearer = highest > cosine
        return jnp.where(nearer, highest, cosine), jnp.where(nearer, block.cluster[where], cluster)

    start = (jnp.full(len(embeddings), -jnp.inf, embeddings.dtype), jnp.broadcast_to(keys.cluster[0], clusters.shape))
    _, cluster = over_blocks(visit, start, keys)
    return jnp.mean(cluster == rows.cluster, dtype=jnp.float32)
