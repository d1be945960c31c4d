"""NT-Xent against a literal transcription, closed forms, and what it must not notice."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jigclu_jax.losses.nt_xent import nt_xent


def rows(images: int, dim: int = 8, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(images, 2, dim))
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def literal(embeddings: np.ndarray, temperature: float) -> float:
    """Equation 1 of the paper, crop by crop."""
    flat = embeddings.reshape(-1, embeddings.shape[-1])
    total = 0.0
    for i, own in enumerate(flat):
        positive = i + 1 if i % 2 == 0 else i - 1
        others = sum(math.exp(own @ flat[a] / temperature) for a in range(len(flat)) if a != i)
        total -= math.log(math.exp(own @ flat[positive] / temperature) / others)
    return total / len(flat)


@pytest.mark.parametrize("images", [2, 7, 300])  # more crops than a block of the loss holds
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_the_loss_is_the_papers(images: int, temperature: float) -> None:
    x = rows(images)
    assert float(nt_xent(jnp.asarray(x, jnp.float32), temperature)) == pytest.approx(literal(x, temperature), rel=1e-5)


def test_closed_forms() -> None:
    same = np.ones((5, 2, 4)) / 2
    assert float(nt_xent(jnp.asarray(same), 0.1)) == pytest.approx(math.log(9), rel=1e-6), "nothing is told apart"
    apart = np.repeat(np.eye(5)[:, None], 2, axis=1)
    assert float(nt_xent(jnp.asarray(apart), 0.1)) == pytest.approx(math.log(1 + 8 * math.exp(-10)), abs=1e-6)


def test_the_order_of_images_and_of_their_crops_changes_nothing() -> None:
    x = rows(6)
    order = np.random.default_rng(1).permutation(6)
    expected = float(nt_xent(jnp.asarray(x), 0.2))
    assert float(nt_xent(jnp.asarray(x[order]), 0.2)) == pytest.approx(expected, rel=1e-5)
    assert float(nt_xent(jnp.asarray(x[:, ::-1]), 0.2)) == pytest.approx(expected, rel=1e-5)


def test_the_derivative_is_that_of_the_matrix() -> None:
    x = jnp.asarray(rows(5), jnp.float32)

    def dense(x: jax.Array) -> jax.Array:
        flat = x.reshape(-1, x.shape[-1])
        similarity = jnp.where(jnp.eye(len(flat), dtype=bool), -jnp.inf, flat @ flat.T / 0.2)
        log = jax.nn.log_softmax(similarity, axis=1)
        return -jnp.mean(log[jnp.arange(len(flat)), jnp.arange(len(flat)) ^ 1])

    np.testing.assert_allclose(jax.grad(lambda x: nt_xent(x, 0.2))(x), jax.grad(dense)(x), rtol=1e-4, atol=1e-6)
