"""How well two labellings of the same images agree."""

import numpy as np
from jaxtyping import Int


def normalized_mutual_information(one: Int[np.ndarray, " n"], other: Int[np.ndarray, " n"]) -> float:
    """Mutual information of two labellings over the mean of their entropies: 1 for the same but for names, 0 for independent ones.

    Two labellings of one label each agree (1). Source: the arithmetic mean, as scikit-learn's `normalized_mutual_info_score` takes it.
    """
    pairs = one.astype(np.int64) * (int(other.max()) + 1) + other
    first, second, both = (np.unique(labels, return_counts=True)[1] for labels in (one, other, pairs))
    entropies = [float(-(counts / len(one) * np.log(counts / len(one))).sum()) for counts in (first, second, both)]
    mean = (entropies[0] + entropies[1]) / 2
    return max(entropies[0] + entropies[1] - entropies[2], 0.0) / mean if mean > 1e-12 else 1.0
