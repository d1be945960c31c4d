"""Losses of a network that has learned nothing, against the losses' definitions."""

import math

import numpy as np
import pytest

from jigclu_jax.losses.chance import uninformed_losses


def clustering_loss(similarity: np.ndarray, clusters: np.ndarray, temperature: float, base: float) -> float:
    """The paper's loss, written out anchor by anchor."""
    total = 0.0
    for i in range(len(clusters)):
        others = [a for a in range(len(clusters)) if a != i]
        log_sum = math.log(sum(math.exp(similarity[i, a] / temperature) for a in others))
        positives = [a for a in others if clusters[a] == clusters[i]]
        total -= temperature / base * sum(similarity[i, p] / temperature - log_sum for p in positives) / len(positives)
    return total / len(clusters)


@pytest.mark.parametrize("similarity", ["collapsed", "orthogonal"])
def test_uninformed_losses_are_those_of_a_network_that_tells_nothing_apart(similarity: str) -> None:
    batch, grid = 5, 2
    clusters = np.repeat(np.arange(batch), grid * grid)
    matrix = np.ones((20, 20)) if similarity == "collapsed" else np.eye(20)
    cluster, location = uninformed_losses(batch, grid, 0.3, 0.07)
    assert cluster == pytest.approx(clustering_loss(matrix, clusters, 0.3, 0.07), rel=1e-12)
    uniform = np.full(grid * grid, 1 / (grid * grid))
    assert location == pytest.approx(-math.log(uniform[0]))
