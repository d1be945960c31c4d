"""Features of the size of a real set's, drawn from class clusters that overlap: what benchmarks use without a data set."""

import numpy as np


def draw(seed: int, rows: int, dim: int, classes: int, *, rank: int = 64, spread: float = 1.6) -> tuple[np.ndarray, np.ndarray]:
    """(features float32[rows, dim], labels int32[rows]), non-negative as behind a ReLU; clusters do not depend on `seed`.

    The clusters lie in `rank` dimensions, `spread` is their deviation beside that of their centres; noise fills the other dimensions.
    """
    fixed = np.random.default_rng(99)
    centres, turn = fixed.normal(size=(classes, rank)), fixed.normal(size=(rank, dim)) / np.sqrt(rank)
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, rows).astype(np.int32)
    inside = centres[labels] + spread * 2 * generator.normal(size=(rows, rank))
    features = inside @ turn + 0.5 * generator.normal(size=(rows, dim))
    return np.maximum(features, 0).astype(np.float32), labels
