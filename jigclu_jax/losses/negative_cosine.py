"""Negative cosine similarity between predictions and targets that have no gradient (BYOL, SimSiam, FastSiam)."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

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
