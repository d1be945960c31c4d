"""Ridge regression on one-hot labels in closed form: a linear classifier without learning rate, epochs or order."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Float64, Int

PENALTIES = tuple(10.0**power for power in range(-5, 3))


def fit_ridge(
    x: Float32[np.ndarray, "n d"], y: Int[np.ndarray, " n"], classes: int, penalties: Sequence[float] = PENALTIES
) -> list[tuple[Float64[np.ndarray, "d c"], Float64[np.ndarray, " c"]]]:
    """(weights, bias) for each penalty: the minimum of the mean squared error against one-hot labels + penalty * sum of squared weights.

    The bias is free. One eigendecomposition of the features' covariance, in float64, serves all penalties.
    """
    mean = x.mean(0, dtype=np.float64)
    rate = np.bincount(y, minlength=classes) / len(y)
    covariance, cross = np.zeros((x.shape[1],) * 2), np.zeros((x.shape[1], classes))
    for begin in range(0, len(x), 16_384):  # in parts: float64 features or targets of all would double the memory, or more
        part = x[begin : begin + 16_384] - mean
        target = np.zeros((len(part), classes))
        target[np.arange(len(part)), y[begin : begin + 16_384]] = 1
        covariance += part.T @ part
        cross += part.T @ (target - rate)
    values, vectors = np.linalg.eigh(covariance / len(x))
    turned = vectors.T @ (cross / len(x))
    found = []
    for penalty in penalties:
        weights = vectors @ (turned / (np.maximum(values, 0) + penalty)[:, None])
        found.append((weights, rate - mean @ weights))
    return found
