"""Negative cosine similarity between predictions and targets that have no gradient (BYOL, SimSiam, FastSiam)."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from jigclu_jax.ops.unit_length import unit_length


def negative_cosine(predictions: Float[Array, "*n d"], targets: Float[Array, "*n d"]) -> Float[Array, ""]:
    """Mean over rows of minus the cosine between prediction and target, from -1 (the same directions) to 1; no gradient by targets.

    BYOL's squared distance of unit vectors is 2 plus twice this. Source: Chen and He 2021, "Exploring simple Siamese representation
    learning", equations 1 to 3; Grill et al. 2020, "Bootstrap your own latent", equation 2.
    """
    return -jnp.mean(jnp.sum(unit_length(predictions) * unit_length(lax.stop_gradient(targets)), axis=-1))


def mean_of_others(rows: Float[Array, "b v d"]) -> Float[Array, "b v d"]:
    """For each of v views the mean of the other v - 1 views' rows; of two views the other one.

    Source: Pototzky, Sultan, Schmidt-Thieme 2022, "FastSiam: resource-efficient self-supervised learning on a single GPU", section 3.
    """
    return (rows.sum(axis=1, keepdims=True) - rows) / (rows.shape[1] - 1)


def mean_of_cluster(rows: Float[Array, "n d"], clusters: Int[Array, " n"], count: int) -> Float[Array, "n d"]:
    """For each row the mean of the other rows of its cluster, ids from 0 to `count` - 1, each of two rows or more; memory is linear in n.

    `mean_of_others` for views that lie anywhere in the batch.
    """
    sums = jax.ops.segment_sum(rows, clusters, count)
    sizes = jax.ops.segment_sum(jnp.ones_like(rows[:, 0]), clusters, count)
    return (sums[clusters] - rows) / (sizes[clusters] - 1)[:, None]
