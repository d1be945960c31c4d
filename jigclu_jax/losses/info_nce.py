"""InfoNCE with a queue: which of the keys is the query's own, beside those of earlier batches (MoCo)."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jigclu_jax.device.mesh import everywhere, row_by_row
from jigclu_jax.losses.cross_entropy import accuracy, cross_entropy


def info_nce(
    queries: Float[Array, "n d"], keys: Float[Array, "n d"], queue: Float[Array, "k d"], temperature: float
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean over queries of -log (exp(q.k / T) / (exp(q.k / T) + sum over the queue of exp(q.n / T))), and how often q.k is the largest.

    All rows have unit length; no gradient reaches `keys` and `queue`. The other keys of the batch are no negatives. Memory is n (k + 1)
    numbers, shared by the devices; the queue is whole on each of them.
    Source: He et al. 2020, "Momentum contrast", equation 1, and the authors' code (moco/builder.py: MoCo.forward).
    """
    keys, queue = lax.stop_gradient((row_by_row(keys), everywhere(queue)))
    own = jnp.sum(queries * keys, axis=1, keepdims=True)
    others = jnp.matmul(queries, queue.T, precision=lax.Precision.HIGHEST)
    logits = jnp.concatenate([own, others], axis=1) / temperature
    first = jnp.zeros(len(logits), jnp.int32)
    return cross_entropy(logits, first), accuracy(logits, first)
