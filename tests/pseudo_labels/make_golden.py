"""Writes golden.npz: what faiss and POT make of the arrays below, against which test_golden.py holds the package.

pip install faiss-cpu==1.15.1 POT==0.9.7 numpy
python tests/pseudo_labels/make_golden.py
"""

from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("golden.npz")
ROWS, DIM, COMPONENTS, CLUSTERS, SHARPNESS = 600, 12, 6, 8, 10.0


def features() -> np.ndarray:
    """Eight clouds of different size and shape, float32[600, 12]."""
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(CLUSTERS, DIM)) * 2
    shape = rng.normal(size=(DIM, DIM)) / 3
    which = rng.choice(CLUSTERS, ROWS, p=np.arange(1, CLUSTERS + 1) / 36)
    return (centres[which] + rng.normal(size=(ROWS, DIM)) @ shape).astype(np.float32)


def kernel() -> np.ndarray:
    """A head of eight clusters, float32[12, 8]."""
    return (np.random.default_rng(6).normal(size=(DIM, CLUSTERS)) / 8).astype(np.float32)


def start(x: np.ndarray) -> np.ndarray:
    """Eight of the rows."""
    return x[np.random.default_rng(7).choice(ROWS, CLUSTERS, replace=False)]


def log_softmax(x: np.ndarray) -> np.ndarray:
    """Of x @ kernel, float64."""
    scores = x.astype(np.float64) @ kernel().astype(np.float64)
    scores = scores - scores.max(axis=1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


def main() -> None:
    """Compute and write."""
    import faiss
    import ot

    x = features()
    matrix = faiss.PCAMatrix(DIM, COMPONENTS, -0.5)
    matrix.train(x)
    components = matrix.apply(x)
    components = components / np.linalg.norm(components, axis=1, keepdims=True)
    means = faiss.Kmeans(DIM, CLUSTERS, niter=20, max_points_per_centroid=10**7, min_points_per_centroid=1)
    means.train(x, init_centroids=start(x))
    labels = means.index.search(x, 1)[1][:, 0]
    rows, columns = np.full(ROWS, 1 / ROWS), np.full(CLUSTERS, 1 / CLUSTERS)
    plan = ot.sinkhorn(rows, columns, -log_softmax(x), reg=1 / SHARPNESS, numItermax=100_000, stopThr=1e-13)
    arrays = {"components": components, "centroids": means.centroids, "losses": means.obj, "labels": labels, "plan": plan}
    np.savez_compressed(FILE, **{name: np.asarray(value) for name, value in arrays.items()})


if __name__ == "__main__":
    main()
