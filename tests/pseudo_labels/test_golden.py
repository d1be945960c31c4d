"""Whitening, k-means and Sinkhorn-Knopp beside faiss and POT (make_golden.py), and beside scikit-learn."""

import numpy as np
import pytest
from pseudo_labels import make_golden as golden
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import normalized_mutual_info_score

from jigclu_jax.device.mesh import create_mesh
from jigclu_jax.pseudo_labels.agreement import normalized_mutual_information
from jigclu_jax.pseudo_labels.kmeans import kmeans
from jigclu_jax.pseudo_labels.sinkhorn import balanced_labels
from jigclu_jax.pseudo_labels.whitening import whitened

FOUND = np.load(golden.FILE)
X = golden.features()


def test_whitened_components_are_faiss_and_scikit_learns() -> None:
    own = whitened(X, golden.COMPONENTS, create_mesh())
    signs = np.sign((own * FOUND["components"]).sum(axis=0))  # faiss says nothing of them
    np.testing.assert_allclose(own, signs * FOUND["components"], atol=2e-4)
    other = PCA(golden.COMPONENTS, whiten=True, svd_solver="full").fit_transform(X.astype(np.float64))
    np.testing.assert_allclose(own, other / np.linalg.norm(other, axis=1, keepdims=True), atol=2e-5)


def test_kmeans_is_faiss_and_scikit_learns() -> None:
    start = golden.start(X)
    own = kmeans(X, start, create_mesh())
    np.testing.assert_array_equal(own.labels, FOUND["labels"])
    np.testing.assert_allclose(own.centroids, FOUND["centroids"], atol=1e-4)
    np.testing.assert_allclose(own.losses[: len(FOUND["losses"])], FOUND["losses"][: len(own.losses)], rtol=1e-4)
    other = KMeans(golden.CLUSTERS, init=start, n_init=1, max_iter=20, tol=0, algorithm="lloyd").fit(X)
    np.testing.assert_array_equal(own.labels, other.labels_)
    assert own.losses[-1] == pytest.approx(other.inertia_, rel=1e-5)


def test_the_balanced_plan_is_pots() -> None:
    own = balanced_labels(X, golden.kernel(), golden.SHARPNESS, create_mesh())
    np.testing.assert_array_equal(own.labels, FOUND["plan"].argmax(axis=1))
    scores = (X - X.mean(axis=0, dtype=np.float64)) @ golden.kernel()
    plan = np.exp(golden.SHARPNESS * scores + own.potentials)
    plan /= plan.sum(axis=1, keepdims=True) * len(X)
    # the masses agree to the tolerance, so the parts do nearly
    np.testing.assert_allclose(plan, FOUND["plan"], atol=5e-3 / len(X))


@pytest.mark.parametrize("seed", range(3))
def test_mutual_information_is_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, noise = rng.integers(0, 7, 300), rng.integers(0, 4, 300)
    for other in (np.where(rng.random(300) < 0.3, noise, one % 5), noise, one + 3, np.zeros(300, int)):
        assert normalized_mutual_information(one, other) == pytest.approx(normalized_mutual_info_score(one, other), abs=1e-9)
    assert normalized_mutual_information(np.zeros(9, int), np.ones(9, int)) == normalized_mutual_info_score([0] * 9, [1] * 9) == 1
