"""Losses of an untrained network, below which jigsaw clustering must fall."""

import math


def uninformed_losses(
    batch_size: int, grid: int, temperature: float, base_temperature: float, *, decoupled: bool = False
) -> tuple[float, float]:
    """(clustering, location) loss of a network that tells nothing apart.

    With all N = batch_size * m * m embeddings equal (collapse), or all of them orthogonal, every softmax is uniform:
    T / T0 * log(N - 1), `decoupled` log(N - m * m), and log(m * m) for the location.
    """
    cells = grid * grid
    others = batch_size * cells - (cells if decoupled else 1)
    return temperature / base_temperature * math.log(others), math.log(cells)
