"""Neighbours and votes against a bank made by hand, brute force in float64, and scikit-learn."""

import math
from typing import Any

import numpy as np
import pytest
from named_errors import raises_naming
from sklearn.neighbors import KNeighborsClassifier

from jigclu_jax.evals import knn
from jigclu_jax.evals.knn import knn_predictions, nearest, predicted, votes


def at(*degrees: float) -> np.ndarray:
    """Vectors of several lengths at these angles."""
    turns = np.deg2rad(np.array(degrees))
    return (np.stack([np.cos(turns), np.sin(turns)], 1) * (1 + np.arange(len(degrees)))[:, None]).astype(np.float32)


def test_a_bank_made_by_hand() -> None:
    bank, labels = at(0, 10, 20, 90, 100, 180), np.array([0, 1, 1, 2, 2, 0], np.int32)
    similarity, index = nearest(at(4), bank, 3)
    assert index.tolist() == [[0, 1, 2]]
    np.testing.assert_allclose(similarity[0], np.cos(np.deg2rad([4, 6, 16])), atol=1e-6)
    # the nearest is of class 0, the next two of class 1: cos 4 = 0.9976, cos 6 = 0.9945, cos 16 = 0.9613
    assert predicted(votes(similarity, labels[index], 3, None)).tolist() == [1]
    weights = [math.exp((math.cos(math.radians(angle)) - 1) / 0.07) for angle in (4, 6, 16)]
    np.testing.assert_allclose(votes(similarity, labels[index], 3, 0.07)[0], [weights[0], weights[1] + weights[2], 0], rtol=1e-4)
    # a cold vote hears the nearest alone
    assert predicted(votes(similarity, labels[index], 3, 1e-3)).tolist() == [0]


def test_ties() -> None:
    bank = np.array([[1, 0], [0, 1], [2, 0], [0, 3], [1, 0]], np.float32)
    similarity, index = nearest(np.array([[1, 0], [1, 1]], np.float32), bank, 3)
    assert index.tolist() == [[0, 2, 4], [0, 1, 2]], "of equally near rows the first in the bank"
    assert predicted(votes(similarity, np.array([[2, 1, 0], [0, 1, 1]], np.int32), 3, None)).tolist() == [0, 1]


def test_ties_across_chunks_of_the_bank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, "_BANK", 4)
    monkeypatch.setattr(knn, "_QUERIES", 2)
    bank = np.tile(np.eye(3, dtype=np.float32), (7, 1))
    _, index = nearest(np.eye(3, dtype=np.float32), bank, 7)
    assert index.tolist() == [list(range(start, 21, 3)) for start in range(3)]


def brute(queries: np.ndarray, bank: np.ndarray, k: int) -> np.ndarray:
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (queries.astype(np.float64), bank.astype(np.float64))]
    return np.argsort(-unit[0] @ unit[1].T, axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize(("rows", "chunk"), [(100, 64), (128, 64), (129, 64), (63, 64), (30, 8)])
def test_the_padding_of_chunks_never_is_a_neighbour(rows: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, "_BANK", chunk)
    monkeypatch.setattr(knn, "_QUERIES", 16)
    generator = np.random.default_rng(0)
    # all similarities are negative: a row of zeros would be nearer than any
    bank, queries = np.abs(generator.normal(size=(rows, 5))).astype(np.float32), -np.abs(generator.normal(size=(37, 5))).astype(np.float32)
    similarity, index = nearest(queries, bank, min(rows, 20))
    assert np.array_equal(index, brute(queries, bank, min(rows, 20)))
    assert (np.diff(similarity, axis=1) <= 0).all()


@pytest.mark.parametrize("k", [1, 5, 20])
@pytest.mark.parametrize("weighted", [False, True])
def test_predictions_are_those_of_scikit_learn(k: int, weighted: bool) -> None:
    generator = np.random.default_rng(k)
    centres = generator.normal(size=(6, 12))
    labels, truth = generator.integers(0, 6, 400).astype(np.int32), generator.integers(0, 6, 150)
    bank = (centres[labels] + 2 * generator.normal(size=(400, 12))).astype(np.float32)
    queries = (centres[truth] + 2 * generator.normal(size=(150, 12))).astype(np.float32)

    def weights(distance: Any) -> Any:
        return np.exp((1 - distance) / 0.07)

    peer = KNeighborsClassifier(k, weights=weights if weighted else "uniform", algorithm="brute", metric="cosine").fit(bank, labels)
    similarity, index = nearest(queries, bank, 20)
    found = knn_predictions(similarity, labels[index], 6, (k,))[f"{'weighted' if weighted else 'majority'}_{k}"]
    assert np.array_equal(found, peer.predict(queries))
    assert 0.2 < (found == truth).mean() < 1


def test_rows_of_zeros_are_far_from_nothing_and_finite() -> None:
    similarity, _ = nearest(np.zeros((1, 3), np.float32), np.eye(3, dtype=np.float32), 2)
    assert similarity.tolist() == [[0, 0]]


def test_more_neighbours_than_the_bank_has() -> None:
    with raises_naming("k=4", "3 images"):
        nearest(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32), 4)
