"""Orders of an epoch that show every cluster equally often, however many images it has."""

import numpy as np
from jaxtyping import Int32


def uniform_over_clusters(labels: Int32[np.ndarray, " n"], generator: np.random.Generator) -> Int32[np.ndarray, " n"]:
    """n images in random order: of each cluster that has any n / clusters + 1, then the first n of all of them.

    Images of a cluster with fewer are drawn with repetition, those of a larger one without. Empty clusters have no part.
    Source: `util.py: UnifLabelSampler` of DeepCluster's code.
    """
    by_label = np.argsort(labels, kind="stable")
    sizes = np.unique(labels, return_counts=True)[1]
    share = len(labels) // len(sizes) + 1
    members = np.split(by_label, np.cumsum(sizes)[:-1])
    drawn = [generator.choice(own, share, replace=len(own) <= share) for own in members]
    return generator.permutation(np.concatenate(drawn))[: len(labels)].astype(np.int32)
