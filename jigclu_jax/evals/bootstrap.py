"""Bootstrap confidence interval of an accuracy over the evaluation images."""

import numpy as np

LEVEL = 0.95
SAMPLES = 10_000


def accuracy_interval(correct: int, images: int, seed: int, level: float = LEVEL, samples: int = SAMPLES) -> tuple[float, float]:
    """Percentile bootstrap of the accuracy over images drawn with replacement; (low, high) as fractions.

    A resample's number of right answers is binomial(images, correct / images): it is drawn as such, which gives the bootstrap's own
    distribution without drawing the images, and asks for the two counts alone. The interval is about the images of the evaluation; that
    of training is another matter (seeds). Of no images nothing is known: (0, 1).
    """
    if not images:
        return 0.0, 1.0
    drawn = np.random.default_rng([seed, 0x626F6F74]).binomial(images, correct / images, samples) / images
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
