"""k-nearest-neighbour classification of features by cosine similarity, without training.

Source of the weighted vote: Wu, Xiong, Yu, Lin, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination",
CVPR 2018, section 3.4 (T = 0.07, k = 200).
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Float32, Int, Int32

from jigclu_jax.errors import UserError, counted
from jigclu_jax.ops.unit_length import unit_length

TEMPERATURE = 0.07
_QUERIES, _BANK = 1024, 8192  # rows a chunk: what bounds the memory, whatever the number of images


def nearest(
    queries: Float32[np.ndarray, "q d"],
    bank: Float32[np.ndarray, "n d"],
    k: int,
    say: Callable[[int], None] = lambda queries: None,
) -> tuple[Float32[np.ndarray, "q k"], Int32[np.ndarray, "q k"]]:
    """(similarity, index) of the k rows of `bank` with the largest cosine, nearest first; of equally near rows the first in the bank.

    Computed on one device in chunks of 1,024 queries by 8,192 rows of the bank. `say(queries done)` after each chunk.

    Raises:
      UserError: k is larger than the bank.
    """
    if not 1 <= k <= len(bank):
        raise UserError(f"k={k} neighbours of a bank of {counted(len(bank), 'image')}: choose from 1 to {len(bank)}")
    size = min(_BANK, len(bank))
    chunks = [unit_length(jnp.asarray(_padded(bank[begin : begin + size], size))) for begin in range(0, len(bank), size)]
    rows = min(_QUERIES, max(len(queries), 1))
    similarities, indices = [], []
    for begin in range(0, len(queries), rows):
        part = unit_length(jnp.asarray(_padded(queries[begin : begin + rows], rows)))
        best = jnp.full((rows, k), -jnp.inf), jnp.zeros((rows, k), jnp.int32)
        for number, chunk in enumerate(chunks):
            best = _merge(part, chunk, *best, jnp.int32(number * size), jnp.int32(min(size, len(bank) - number * size)), k=k)
        done = min(begin + rows, len(queries))
        similarities.append(np.asarray(best[0])[: done - begin])
        indices.append(np.asarray(best[1])[: done - begin])
        say(done)
    if not indices:
        return np.zeros((0, k), np.float32), np.zeros((0, k), np.int32)
    return np.concatenate(similarities), np.concatenate(indices)


@functools.partial(jax.jit, static_argnames="k")
def _merge(
    queries: Float[Array, "q d"],
    bank: Float[Array, "n d"],
    similarity: Float[Array, "q k"],
    index: Int[Array, "q k"],
    first: Int[Array, ""],
    count: Int[Array, ""],
    *,
    k: int,
) -> tuple[Array, Array]:
    """The k best of those found so far and of the first `count` rows of a chunk of the bank, whose first row has index `first`."""
    found = jnp.matmul(queries, bank.T, precision=lax.Precision.HIGHEST)
    found = jnp.where(jnp.arange(len(bank)) < count, found, -jnp.inf)
    own, place = lax.top_k(found, min(k, len(bank)))  # of equal ones the first
    # what was found before stands in front: its rows come earlier in the bank
    similarity, chosen = lax.top_k(jnp.concatenate([similarity, own], 1), k)
    return similarity, jnp.take_along_axis(jnp.concatenate([index, first + place], 1), chosen, 1)


def _padded(rows: np.ndarray, size: int) -> np.ndarray:
    return np.pad(rows, ((0, size - len(rows)), (0, 0))) if len(rows) < size else rows


def votes(
    similarity: Float32[np.ndarray, "q k"],
    labels: Int32[np.ndarray, "q k"],
    classes: int,
    temperature: float | None = TEMPERATURE,
) -> Float32[np.ndarray, "q c"]:
    """Score of every class: sum over its neighbours of exp(similarity / temperature), or of 1 for None (majority).

    Divided by exp(1 / temperature), which changes no order and keeps the numbers small.
    """
    weights = np.ones_like(similarity) if temperature is None else np.exp((similarity - 1) / temperature)
    scores = np.zeros((len(labels), classes), np.float64)
    np.add.at(scores, (np.arange(len(labels))[:, None], labels), weights)
    return scores.astype(np.float32)


def predicted(scores: Float[np.ndarray, "q c"]) -> Int[np.ndarray, " q"]:
    """The class with the largest score; of equal ones the one with the smallest number."""
    return scores.argmax(1)


def knn_predictions(
    similarity: Float32[np.ndarray, "q k"],
    labels: Int32[np.ndarray, "q k"],
    classes: int,
    neighbours: Sequence[int],
    temperature: float = TEMPERATURE,
) -> dict[str, Int[np.ndarray, " q"]]:
    """{"weighted_20": classes, "majority_20": ..., ...} for each number of neighbours, from the sorted neighbours of the largest."""
    found = {}
    for k in neighbours:
        for name, heat in (("weighted", temperature), ("majority", None)):
            found[f"{name}_{k}"] = predicted(votes(similarity[:, :k], labels[:, :k], classes, heat))
    return found
