"""InfoNCE with a queue against a literal transcription, closed forms and lightly's implementation."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jigclu_jax.losses.info_nce import info_nce


def unit(*shape: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def arrays(rows: int = 6, size: int = 20, dim: int = 8) -> list[jax.Array]:
    return [jnp.asarray(x, jnp.float32) for x in (unit(rows, dim, seed=1), unit(rows, dim, seed=2), unit(size, dim, seed=3))]


def literal(queries: jax.Array, keys: jax.Array, queue: jax.Array, temperature: float) -> float:
    """Equation 1 of the paper, query by query."""
    total = 0.0
    queries, keys, queue = (np.asarray(x, np.float64) for x in (queries, keys, queue))
    for query, key in zip(queries, keys, strict=True):
        own = math.exp(query @ key / temperature)
        total -= math.log(own / (own + sum(math.exp(query @ other / temperature) for other in queue)))
    return total / len(queries)


@pytest.mark.parametrize("temperature", [0.07, 0.2])
@pytest.mark.parametrize("size", [1, 20])
def test_the_loss_is_the_papers(size: int, temperature: float) -> None:
    queries, keys, queue = arrays(size=size)
    loss, _ = info_nce(queries, keys, queue, temperature)
    assert float(loss) == pytest.approx(literal(queries, keys, queue, temperature), rel=1e-5)


def test_closed_forms() -> None:
    same = jnp.ones((3, 4)) / 2
    loss, found = info_nce(same, same, jnp.ones((9, 4)) / 2, 0.1)
    assert float(loss) == pytest.approx(math.log(10), rel=1e-6) and float(found) == 0, "nothing is told apart"
    eye = jnp.eye(8)
    loss, found = info_nce(eye[:3], eye[:3], eye[3:], 0.1)
    assert float(loss) == pytest.approx(math.log(1 + 5 * math.exp(-10)), abs=1e-6) and float(found) == 1


def test_the_queues_order_changes_nothing_and_the_batchs_other_keys_are_no_negatives() -> None:
    queries, keys, queue = arrays()
    expected, _ = info_nce(queries, keys, queue, 0.2)
    assert float(info_nce(queries, keys, queue[::-1], 0.2)[0]) == pytest.approx(float(expected), rel=1e-6)
    one, _ = info_nce(queries[:1], keys[:1], queue, 0.2)
    assert float(one) == pytest.approx(literal(queries[:1], keys[:1], queue, 0.2), rel=1e-5)
    rows = [float(info_nce(queries[i : i + 1], keys[i : i + 1], queue, 0.2)[0]) for i in range(len(queries))]
    assert float(expected) == pytest.approx(np.mean(rows), rel=1e-5)


def test_the_gradient_is_that_of_the_queries_alone() -> None:
    queries, keys, queue = arrays()
    by_query, by_key, by_queue = jax.grad(lambda *x: info_nce(*x, 0.2)[0], (0, 1, 2))(queries, keys, queue)
    assert not by_key.any() and not by_queue.any()
    # by hand: sum over keys of (probability - right) * key / T, divided by the number of queries
    logits = np.concatenate([np.sum(queries * keys, 1, keepdims=True), queries @ queue.T], 1) / 0.2
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = ((probability[:, :1] - 1) * keys + probability[:, 1:] @ queue) / 0.2 / len(queries)
    np.testing.assert_allclose(by_query, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("temperature", "expected"), [(0.07, 7.33814451270855), (0.2, 3.5164544252111027)])
def test_the_loss_is_lightlys(temperature: float, expected: float) -> None:
    """lightly 1.6.0: NTXentLoss(temperature, memory_bank_size=(20, 8)) in float64, its bank set to the queue."""
    assert float(info_nce(*arrays(), temperature)[0]) == pytest.approx(expected, rel=1e-5)
