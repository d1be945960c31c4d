"""Root mean square of a backbone's features, by which a probe's learning rate is made comparable between backbones."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jigclu_jax.train.state import TrainState


def feature_size(features: Callable[[TrainState, jax.Array], jax.Array], state: TrainState, image: jax.Array) -> jax.Array:
    """Root mean square of `features(state, image)` over a batch u8[b, h, w, 3]; float32 scalar."""
    return jnp.sqrt(jnp.mean(jnp.square(jax.jit(features)(state, image))))
