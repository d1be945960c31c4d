"""Cross entropy against integer labels, and top-k accuracy, with a mask for padded examples."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


def cross_entropy(logits: Float[Array, "*n k"], labels: Int[Array, "*n"], mask: Bool[Array, "*n"] | None = None) -> Float[Array, ""]:
    """Mean over examples of -log softmax(logits)[label], in float32 or better.

    Only examples with a true `mask` count (what the label says elsewhere does not matter); 0 when there are none.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    if mask is None:
        mask = jnp.ones(labels.shape, bool)
    logits = jnp.where(mask[..., None], logits, 0.0)  # before the loss, so that a padded NaN reaches no gradient
    own = jnp.take_along_axis(logits, jnp.where(mask, labels, 0)[..., None], axis=-1)[..., 0]
    each = jnp.where(mask, jax.nn.logsumexp(logits, axis=-1) - own, 0.0)
    return each.sum() / jnp.maximum(mask.sum(), 1)


def hits(scores: Float[Array, "*n k"] | Float[np.ndarray, "*n k"], labels: Int[Array, "*n"] | Int[np.ndarray, "*n"], top: int = 1) -> Any:
    """Whether the score of an example's label is among the `top` highest; bool[*n], of numpy where the scores are.

    A class that ties with the label's goes before it, so that constant scores hit nothing; neither do scores that are not all finite.
    """
    xp = scores.__array_namespace__()
    own = xp.take_along_axis(scores, labels[..., None], axis=-1)
    ahead = (scores >= own).sum(axis=-1) - 1  # all but the label's own
    return (ahead < top) & xp.isfinite(scores).all(axis=-1)


def accuracy(
    logits: Float[Array, "*n k"], labels: Int[Array, "*n"], mask: Bool[Array, "*n"] | None = None, *, top: int = 1
) -> Float[Array, ""]:
    """Fraction of the examples (with a true `mask`) that are `hits`, 0..1, float32; 0 when there are none."""
    if mask is None:
        mask = jnp.ones(labels.shape, bool)
    hit = hits(logits, jnp.where(mask, labels, 0), top) & mask
    return hit.sum() / jnp.maximum(mask.sum(), 1).astype(jnp.float32)
