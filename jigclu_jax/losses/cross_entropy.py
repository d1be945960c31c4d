"""Cross entropy against integer labels, and top-k accuracy, with a mask for padded examples."""

import jax
import jax.numpy as jnp
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


def accuracy(
    logits: Float[Array, "*n k"], labels: Int[Array, "*n"], mask: Bool[Array, "*n"] | None = None, *, top: int = 1
) -> Float[Array, ""]:
    """Share of the examples (with a true `mask`) whose label is among the `top` highest logits, 0..1, float32.

    Of equal logits the lower class goes first, so that constant logits score chance, and logits that are no numbers score 0.
    """
    if mask is None:
        mask = jnp.ones(labels.shape, bool)
    label = jnp.where(mask, labels, 0)[..., None]
    own = jnp.take_along_axis(logits, label, axis=-1)
    classes = jnp.arange(logits.shape[-1])
    ahead = ((logits > own) | ((logits == own) & (classes < label))).sum(axis=-1)
    hit = (ahead < top) & ~jnp.isnan(logits).any(axis=-1) & mask
    return hit.sum() / jnp.maximum(mask.sum(), 1).astype(jnp.float32)
