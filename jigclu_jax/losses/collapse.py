"""The spread of a batch's embeddings as a metric: it falls to 0 where all images get one embedding."""

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jigclu_jax.metrics import MetricSpec
from jigclu_jax.ops.unit_length import unit_length

EMBEDDING_STD = MetricSpec(
    "embedding_std",
    "deviation of embeddings",
    short="std",
    about="Of each coordinate over the images, beside that of random directions: 1 is the most, 0 a collapse.",
)


def embedding_std(embeddings: Float[Array, "*n d"]) -> Float[Array, ""]:
    """sqrt(d) times the mean over coordinates of the standard deviation over rows, which are made unit length first; no gradient.

    Directions that are spread evenly have 1 / sqrt(d) in every coordinate. Source: Chen and He 2021, "Exploring simple Siamese
    representation learning", section 4.1, figure 2.
    """
    rows = lax.stop_gradient(unit_length(embeddings.astype(jnp.promote_types(embeddings.dtype, jnp.float32))))
    return math.sqrt(rows.shape[-1]) * jnp.mean(jnp.std(rows.reshape(-1, rows.shape[-1]), axis=0))
