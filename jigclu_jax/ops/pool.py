"""Global average pool, the feature of a whole image."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def global_average_pool(features: Float[Array, "b h w d"]) -> Float[Array, "b d"]:
    """Mean over the feature map, in float32 at least whatever the backbone computed in."""
    return features.astype(jnp.promote_types(features.dtype, jnp.float32)).mean((1, 2))
