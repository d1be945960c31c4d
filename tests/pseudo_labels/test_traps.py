"""Blocks, devices, empty clusters, degenerate features, and marginals: where whole-set labels go wrong."""

import jax
import numpy as np
import pytest
from pseudo_labels import make_golden as golden

from jigclu_jax.device.mesh import create_mesh
from jigclu_jax.pseudo_labels import blocks
from jigclu_jax.pseudo_labels.kmeans import kmeans, split_largest
from jigclu_jax.pseudo_labels.sinkhorn import TOLERANCE, balanced_labels
from jigclu_jax.pseudo_labels.whitening import whitened

X = golden.features()


def everything(count: int = 1) -> tuple[np.ndarray, ...]:
    """Components, labels and potentials of 599 rows on some devices: an odd number, so that there is padding."""
    mesh, x = create_mesh(jax.devices()[:count]), X[:599]
    found, balanced = kmeans(x, golden.start(X), mesh), balanced_labels(x, golden.kernel(), golden.SHARPNESS, mesh)
    assert balanced.error <= TOLERANCE
    return whitened(x, golden.COMPONENTS, mesh), found.labels, found.centroids, balanced.labels, balanced.potentials


def assert_near(one: tuple[np.ndarray, ...], other: tuple[np.ndarray, ...]) -> None:
    for a, b in zip(one, other, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, atol=0 if a.dtype == np.int32 else 1e-4)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = everything()
    monkeypatch.setattr(blocks, "NUMBERS", 8 * 100)
    assert blocks.lay_out(X, 8, create_mesh(jax.devices()[:1])).shape == (6, 100, 12)
    assert_near(everything(), whole)


def test_the_same_twice() -> None:
    for one, other in zip(everything(), everything(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.devices8
def test_eight_devices_compute_what_one_does() -> None:
    assert_near(everything(8), everything(1))


def test_rows_of_whitened_features_are_white_before_they_get_their_length() -> None:
    own = whitened(X, 12, create_mesh())
    centred = X - X.mean(axis=0)
    factor = np.linalg.lstsq(centred, own, rcond=None)[0]  # not the whole story: rows have their own lengths
    assert own.shape == (len(X), 12) and factor.shape == (12, 12)
    np.testing.assert_allclose(np.linalg.norm(own, axis=1), 1, rtol=1e-5)
    values, vectors = np.linalg.eigh(np.cov(centred.T.astype(np.float64), bias=True))
    white = centred @ vectors / np.sqrt(values)
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(12), atol=1e-6)
    inner = white @ white.T / np.outer(*[np.linalg.norm(white, axis=1)] * 2)
    np.testing.assert_allclose(own @ own.T, inner, atol=1e-3)


def test_directions_without_variance_are_left_out() -> None:
    dead = np.concatenate([X[:, :3], np.full((len(X), 2), 0.7, np.float32), X[:, :1] * 2], axis=1)
    assert whitened(dead, 6, create_mesh()).shape == (len(X), 3)
    same = whitened(np.full((50, 4), 0.1, np.float32), 4, create_mesh())
    assert same.shape == (50, 1) and (same == 0).all()


def test_an_empty_cluster_takes_half_of_the_largest() -> None:
    centroids = np.arange(12, dtype=np.float32).reshape(4, 3) + 1
    after = split_largest(centroids, np.array([3.0, 0.0, 10.0, 0.0]))
    np.testing.assert_array_equal(after[0], centroids[0])
    np.testing.assert_allclose(after[1], centroids[2], rtol=0.002)
    np.testing.assert_allclose(after[[2, 3]], centroids[[2, 2]], rtol=0.003)
    assert len(np.unique(after, axis=0)) == 4, "the halves have moved apart"


def test_clusters_that_begin_empty_are_filled() -> None:
    start = np.concatenate([golden.start(X)[:6], np.full((2, 12), 1e3, np.float32)])
    found = kmeans(X, start, create_mesh())
    assert len(np.unique(found.labels)) == 8 and found.losses[-1] < found.losses[0]


def test_rows_that_are_all_the_same_are_one_cluster() -> None:
    same = np.full((50, 4), 0.1, np.float32)
    assert len(np.unique(kmeans(np.zeros_like(same), np.zeros((3, 4), np.float32), create_mesh()).labels)) == 1
    assert balanced_labels(same, np.eye(4, dtype=np.float32), 25.0, create_mesh()).error <= TOLERANCE


def literal(x: np.ndarray, kernel: np.ndarray, sharpness: float) -> np.ndarray:
    """Probabilities to the power, rows and columns scaled in turn, in float64, as the authors' code does: the plan [n, k]."""
    scores = x.astype(np.float64) @ kernel.astype(np.float64)
    power = np.exp(scores - scores.max(axis=1, keepdims=True))
    power = (power / power.sum(axis=1, keepdims=True)) ** sharpness
    n, k = power.shape
    rows = np.ones(n) / n
    for _ in range(5000):
        columns = 1 / k / (rows @ power)
        rows = 1 / n / (power @ columns)
    return rows[:, None] * power * columns


@pytest.mark.parametrize("sharpness", [1.0, 10.0])
def test_the_plan_is_the_literal_one_in_float64(sharpness: float) -> None:
    own, plan = balanced_labels(X, golden.kernel(), sharpness, create_mesh()), literal(X, golden.kernel(), sharpness)
    assert (own.labels == plan.argmax(axis=1)).mean() > 0.995
    scores = sharpness * (X - X.mean(axis=0, dtype=np.float64)) @ golden.kernel() + own.potentials
    found = np.exp(scores - scores.max(axis=1, keepdims=True))
    found /= found.sum(axis=1, keepdims=True) * len(X)
    np.testing.assert_allclose(found.sum(axis=1), 1 / len(X), rtol=1e-6)
    np.testing.assert_allclose(found.sum(axis=0), 1 / 8, rtol=1.1 * TOLERANCE)
    np.testing.assert_allclose(found, plan, atol=5e-3 / len(X))


def test_labels_have_equal_shares_and_follow_the_images_and_the_clusters() -> None:
    rng = np.random.default_rng(3)
    x, kernel = rng.normal(size=(4000, 16)).astype(np.float32), rng.normal(size=(16, 10)).astype(np.float32)
    own = balanced_labels(x, kernel, 25.0, create_mesh())
    assert own.error <= TOLERANCE and (abs(np.bincount(own.labels, minlength=10) / 400 - 1) < 0.05).all()
    rows, columns = rng.permutation(len(x)), rng.permutation(10)
    other = balanced_labels(x[rows], kernel[:, columns], 25.0, create_mesh())
    assert (columns[other.labels] == own.labels[rows]).mean() > 0.998


def test_powers_that_float32_cannot_hold_are_no_trouble() -> None:
    own = balanced_labels(10 * X, golden.kernel(), 25.0, create_mesh())  # softmax ** 25 of single rows is below 1e-300
    assert np.isfinite(own.potentials).all() and len(np.unique(own.labels)) == 8
