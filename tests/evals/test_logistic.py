import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jigclu_jax.evals.logistic import fit_logistic, linear_probe

N, DIM = 300, 10  # one shape wherever it does not matter: each takes XLA seconds


def blobs(seed: int, n: int, classes: int, dim: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian clouds whose centres do not depend on the seed."""
    centres = np.random.default_rng(99).normal(size=(classes, dim)) * 2
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n).astype(np.int32)
    return (centres[labels] + rng.normal(size=(n, dim)) * spread).astype(np.float32), labels


@pytest.mark.parametrize("penalty", [1e-3, 1e-2, 1e-1])
def test_same_optimum_as_scikit_learn(penalty):
    x, y = blobs(0, N, 4, DIM, 2.0)
    weights, bias = fit_logistic(x, y, 4, penalty)
    peer = LogisticRegression(C=1 / (penalty * len(x)), tol=1e-8, max_iter=5000).fit(x.astype(np.float64), y)
    chance = np.exp(x @ weights + bias)
    np.testing.assert_allclose(chance / chance.sum(1, keepdims=True), peer.predict_proba(x), atol=5e-3)


def test_gradient_vanishes_at_the_solution():
    x, y = blobs(1, N, 4, DIM, 3.0)
    weights, bias = fit_logistic(x, y, 4, 0.01)
    logits = (x @ weights + bias).astype(np.float64)
    chance = np.exp(logits - logits.max(1, keepdims=True))
    chance /= chance.sum(1, keepdims=True)
    residual = (chance - np.eye(4)[y]) / len(x)
    assert np.abs(x.T @ residual + 0.01 * weights).max() < 5e-4
    assert np.abs(residual.sum(0)).max() < 5e-4


def test_probe_separates_what_is_separable_and_nothing_else():
    x, y = blobs(2, N, 4, DIM, 0.3)
    test_x, test_y = blobs(3, 200, 4, DIM, 0.3)
    assert linear_probe(x, y, test_x, test_y, 4) > 0.98
    shuffled = np.random.default_rng(0).permutation(y)
    assert linear_probe(x, shuffled, test_x, test_y, 4) < 0.5


def test_probe_does_not_depend_on_the_scale_of_a_feature_and_bears_a_constant_one():
    x, y = blobs(4, N, 4, DIM, 2.0)
    test_x, test_y = blobs(5, 300, 4, DIM, 2.0)
    plain = linear_probe(x, y, test_x, test_y, 4)
    scale, shift = np.float32([1e3, 1e-2, 1, 50, 7, 1e-3, 1, 20, 4, 1, 1]), np.float32([5, 0, -3, 1, 0, 0, 9, 0, -7, 1, 2])
    wide = [np.concatenate([part, np.zeros((len(part), 1), np.float32)], 1) * scale + shift for part in (x, test_x)]
    assert abs(linear_probe(wide[0], y, wide[1], test_y, 4) - plain) < 0.02


def test_penalty_is_chosen_without_the_test_set():
    x, y = blobs(6, 60, 2, 40, 6.0)
    test_x, test_y = blobs(7, 500, 2, 40, 6.0)
    chosen = linear_probe(x, y, test_x, test_y, 2)
    assert chosen == linear_probe(x, y, test_x, test_y, 2)  # the seed fixes the held-out part
    single = [linear_probe(x, y, test_x, test_y, 2, penalties=(p,)) for p in (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)]
    assert chosen in single
    assert chosen == linear_probe(x, y, test_x[:250], test_y[:250], 2) / 2 + linear_probe(x, y, test_x[250:], test_y[250:], 2) / 2
