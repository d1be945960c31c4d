"""How far an accuracy could be another one on other images of the same sort: bootstrap confidence intervals."""

import numpy as np
from jaxtyping import Bool

LEVEL = 0.95
SAMPLES = 10_000


def accuracy_interval(hits: Bool[np.ndarray, " n"], seed: int, level: float = LEVEL, samples: int = SAMPLES) -> tuple[float, float]:
    """Percentile bootstrap of the mean of `hits` over images drawn with replacement; (low, high) as fractions.

    A resample's number of hits is binomial(n, mean): it is drawn as such, which gives the bootstrap's own distribution without
    drawing the images. The interval is about the images of the evaluation; that of training is another matter (seeds).
    """
    drawn = np.random.default_rng([seed, 0x626F6F74]).binomial(len(hits), np.mean(hits), samples) / len(hits)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


__all__ = ["LEVEL", "SAMPLES", "accuracy_interval"]
