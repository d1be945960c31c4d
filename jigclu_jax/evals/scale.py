"""Root mean square of a backbone's features, by which a probe's learning rate is made comparable between backbones."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp


def feature_size(features: Callable[..., jax.Array], extra: Mapping[str, object], image: jax.Array) -> jax.Array:
    """Root mean square of `features(extra, image)` over a batch u8[b, h, w, 3]; float32 scalar."""
    return jnp.sqrt(jnp.mean(jnp.square(jax.jit(features)(extra, image))))
