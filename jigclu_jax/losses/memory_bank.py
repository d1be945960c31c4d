"""Losses against a memory bank: one embedding for each image of the data set, moved when the image is seen.

Source: Wu, Xiong, Yu, Lin 2018, "Unsupervised feature learning via non-parametric instance discrimination", section 3, and the authors'
code (zhirongw/lemniscate.pytorch: NCEAverage.py, NCECriterion.py, LinearAverage.py).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jigclu_jax.ops.unit_length import unit_length


class Scores(NamedTuple):
    """Dot products with rows of the bank, divided by the temperature.

    Attributes:
      own: of each embedding with its own image's row.
      others: with the rows of the negatives, one draw for the whole batch.
      same: whether a negative happens to be the image's own row.
    """

    own: Float[Array, " b"]
    others: Float[Array, "b k"]
    same: Bool[Array, "b k"]


def bank_scores(
    embeddings: Float[Array, "b d"], bank: Float[Array, "n d"], example: Int[Array, " b"], negatives: Int[Array, " k"], temperature: float
) -> Scores:
    """Scores of unit rows `embeddings` of the images `example` against the bank's rows; no gradient reaches the bank.

    The authors draw `negatives` anew for every image, which takes b times the memory and gives the same mean.
    """
    own = jnp.sum(embeddings * lax.stop_gradient(bank[example]), axis=-1) / temperature
    return Scores(own, bank_logits(embeddings, bank[negatives], temperature), example[:, None] == negatives)


def bank_logits(embeddings: Float[Array, "b d"], rows: Float[Array, "k d"], temperature: float) -> Float[Array, "b k"]:
    """Dot products of unit rows with rows of the bank over the temperature; of all rows, the logits of the paper's equation 2."""
    return jnp.matmul(embeddings, lax.stop_gradient(rows).T, precision=lax.Precision.HIGHEST) / temperature


def log_partition(scores: Scores, images: int) -> Float[Array, ""]:
    """log Z, the partition function estimated from one batch: images * mean of exp(score) over own rows and negatives.

    The authors estimate it from the first batch of a run and keep it.
    """
    every = jnp.concatenate([scores.own[:, None], scores.others], axis=1)
    return lax.stop_gradient(jax.nn.logsumexp(every) - jnp.log(every.size) + jnp.log(images))


def nce_loss(scores: Scores, log_z: Float[Array, ""], images: int) -> Float[Array, ""]:
    """Noise-contrastive estimation: mean over images of -log h(own) - sum over negatives of log(1 - h(negative)).

    h = P / (P + k / n) is the probability that a row comes from the model and not from k uniform draws of the n `images`, with
    P = exp(score) / Z (paper, equations 5 to 7). In logarithms nothing overflows; the authors' 1e-7 in the denominators is left out.
    """
    noise = jnp.log(scores.others.shape[1] / images) + log_z
    return jnp.mean(jax.nn.softplus(noise - scores.own) + jax.nn.softplus(scores.others - noise).sum(axis=1))


def bank_accuracy(scores: Scores) -> Float[Array, ""]:
    """How often the own row is nearer than every negative that is not the own row, 0..1, float32; ties are misses."""
    return jnp.mean(jnp.all((scores.own[:, None] > scores.others) | scores.same, axis=1), dtype=jnp.float32)


def moved_bank(
    bank: Float[Array, "n d"], example: Int[Array, " b"], embeddings: Float[Array, "b d"], momentum: float
) -> Float[Array, "n d"]:
    """The bank with the rows of `example` moved towards `embeddings`: momentum * old + (1 - momentum) * new, made unit length again."""
    rows = momentum * bank[example] + (1 - momentum) * lax.stop_gradient(embeddings)
    return bank.at[example].set(unit_length(rows).astype(bank.dtype))
