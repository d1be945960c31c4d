"""Measures of how features are spread, without labels: alignment, uniformity, effective rank. All three show a collapse."""

import numpy as np
from jaxtyping import Float32, Int

from jigclu_jax.ops.unit_length import unit_length

_EPSILON = 1e-7  # of RankMe's entropy
_PAIRS = 1_000_000  # pairs that uniformity is a mean over, at most


def effective_rank(x: Float32[np.ndarray, "n d"]) -> float:
    """RankMe: exp of the entropy of the singular values divided by their sum, from 1 (all rows on one line) to min(n, d).

    Rows are neither centred nor normalised. Source: Garrido, Balestriero, Najman, LeCun, "RankMe", ICML 2023, equation 1.
    """
    values = np.linalg.svd(x.astype(np.float64), compute_uv=False)
    if values.sum() == 0:
        return 1.0
    fraction = values / values.sum() + _EPSILON
    return float(np.exp(-np.sum(fraction * np.log(fraction))))


def alignment(x: Float32[np.ndarray, "n d"], y: Float32[np.ndarray, "n d"]) -> float:
    """Mean squared distance of the unit vectors of positive pairs (x[i], y[i]): 0 at best, 2 for unrelated directions.

    Source: Wang and Isola, "Understanding Contrastive Representation Learning through Alignment and Uniformity on the Hypersphere",
    ICML 2020, section 4 (alpha = 2).
    """
    return float(np.mean(np.sum(np.square(unit_length(x) - unit_length(y), dtype=np.float64), axis=1)))


def uniformity(x: Float32[np.ndarray, "n d"], seed: int = 0) -> float:
    """log of the mean of exp(-2 |x - y|^2) over pairs of different rows as unit vectors: 0 where all are one, towards -4 where spread.

    All pairs up to a million, else so many drawn with `seed`. Source: as `alignment` (t = 2).
    """
    unit = unit_length(x)
    first, second = _pairs(len(unit), seed)
    total = 0.0
    for begin in range(0, len(first), 65_536):
        part = slice(begin, begin + 65_536)
        cosine = np.einsum("nd,nd->n", unit[first[part]], unit[second[part]], dtype=np.float64)
        total += float(np.exp(-4 * (1 - cosine)).sum())  # |x - y|^2 = 2 - 2 cos
    return float(np.log(total / len(first)))


def positive_pairs(groups: Int[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]:
    """(first, second) of every pair of rows of one group, each pair once."""
    order = np.argsort(groups, kind="stable")
    first, second = [], []
    for own in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        left, right = np.triu_indices(len(own), 1)
        first.append(own[left])
        second.append(own[right])
    return np.concatenate(first), np.concatenate(second)


def embedding_spread(x: Float32[np.ndarray, "n d"], groups: Int[np.ndarray, " n"], seed: int = 0) -> dict[str, float]:
    """Rank and uniformity of a method's embeddings, and alignment of those of one group (an image), by the names of result.json."""
    first, second = positive_pairs(groups)
    return {
        "rank_embeddings": effective_rank(x),
        "uniformity_embeddings": uniformity(x, seed),
        "alignment_embeddings": alignment(x[first], x[second]),
    }


def _pairs(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    if count * (count - 1) // 2 <= _PAIRS:
        return np.triu_indices(count, 1)
    generator = np.random.default_rng([seed, 0x70616972])
    first = generator.integers(0, count, _PAIRS)
    return first, (first + generator.integers(1, count, _PAIRS)) % count
