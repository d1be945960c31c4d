"""Cross entropy and top-k accuracy against numpy, with masks, ties and numbers that are none."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jigclu_jax.losses import accuracy, cross_entropy
from jigclu_jax.losses.cross_entropy import hits


def logits_and_labels(shape: tuple[int, ...] = (12,), classes: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(0, 3, (*shape, classes)), rng.integers(0, classes, shape)


@pytest.mark.parametrize("shape", [(12,), (3, 2, 2)])
def test_cross_entropy(shape: tuple[int, ...]) -> None:
    logits, labels = logits_and_labels(shape)
    probability = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = -np.log([probability[i][labels[i]] for i in np.ndindex(shape)]).mean()
    assert float(cross_entropy(jnp.asarray(logits, "float32"), jnp.asarray(labels))) == pytest.approx(expected, rel=1e-5)


def test_gradient_is_probability_less_label() -> None:
    logits, labels = logits_and_labels()
    grad = jax.grad(cross_entropy)(jnp.asarray(logits, "float32"), jnp.asarray(labels))
    probability = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(grad, (probability - np.eye(7)[labels]) / 12, atol=1e-6)


def test_only_masked_examples_count() -> None:
    logits, labels = (jnp.asarray(a) for a in logits_and_labels())
    logits = logits.astype("float32")
    mask = np.arange(12) < 5
    padded = jnp.where(mask, labels, -1)
    dirty = jnp.where(mask[:, None], logits, jnp.nan)
    value, grad = jax.value_and_grad(cross_entropy)(dirty, padded, jnp.asarray(mask))
    assert float(value) == pytest.approx(float(cross_entropy(logits[:5], labels[:5])), rel=1e-6)
    np.testing.assert_array_equal(grad[5:], 0.0)
    for top in (1, 3):
        assert float(accuracy(dirty, padded, jnp.asarray(mask), top=top)) == pytest.approx(float(accuracy(logits[:5], labels[:5], top=top)))
    nothing = jnp.zeros(12, bool)
    assert (cross_entropy(logits, labels, nothing), accuracy(logits, labels, nothing)) == (0.0, 0.0)


def test_large_logits_stay_finite() -> None:
    logits = jnp.array([[1e4, 0.0], [0.0, 1e4]])
    np.testing.assert_allclose(cross_entropy(logits, jnp.array([0, 0])), 5e3)
    assert cross_entropy(logits.astype("bfloat16"), jnp.array([0, 1])).dtype == jnp.float32


@pytest.mark.parametrize("top", [1, 2, 5, 7, 10])
def test_accuracy_against_sorting(top: int) -> None:
    logits, labels = logits_and_labels((200,))
    best = np.argsort(-logits, axis=1)[:, :top]
    expected = np.mean([labels[i] in best[i] for i in range(200)])
    assert float(accuracy(jnp.asarray(logits, "float32"), jnp.asarray(labels), top=top)) == pytest.approx(expected)


@pytest.mark.parametrize("of", [np.asarray, jnp.asarray])
def test_hits_count_ties_and_broken_scores_as_wrong(of: Callable[..., Any]) -> None:
    scores = of(np.array([[1, 2, 3], [3, 2, 1], [2, 2, 0], [np.nan, 1, 0], [1, np.nan, 0], [np.inf, 1, 0]], np.float32))
    labels = of(np.array([2, 1, 0, 0, 0, 0]))
    assert isinstance(hits(scores, labels), type(scores))
    assert hits(scores, labels).tolist() == [True, False, False, False, False, False]
    assert hits(scores, labels, 2).tolist() == [True, True, True, False, False, False]
    assert hits(scores[None], labels[None], 3).tolist() == [[True] * 3 + [False] * 3]


def test_constant_and_undefined_logits_score_nothing() -> None:
    labels = jnp.arange(8)
    for value in (0.0, jnp.nan):
        assert float(accuracy(jnp.full((8, 8), value), labels, top=5)) == 0.0
    assert float(accuracy(jnp.zeros((8, 8)), labels, top=8)) == 1.0
