"""The deviation of embeddings: 1 for directions spread evenly, 0 where all are one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jigclu_jax.losses.collapse import embedding_std


def test_even_directions_have_one_and_a_collapse_has_none() -> None:
    assert float(embedding_std(jnp.concatenate([jnp.eye(16), -jnp.eye(16)]))) == pytest.approx(1)
    assert float(embedding_std(jax.random.normal(jax.random.key(0), (4096, 64)))) == pytest.approx(1, abs=0.01)
    assert float(embedding_std(jnp.full((8, 4), 3.0))) == pytest.approx(0, abs=1e-6)


def test_the_length_of_embeddings_does_not_count() -> None:
    x = np.random.default_rng(0).normal(size=(6, 2, 5)).astype(np.float32)
    lengths = np.random.default_rng(1).uniform(0.1, 10, (6, 2, 1)).astype(np.float32)
    rows = (x / np.linalg.norm(x, axis=-1, keepdims=True)).reshape(-1, 5)
    assert float(embedding_std(jnp.asarray(x * lengths))) == pytest.approx(np.sqrt(5) * rows.std(0).mean(), rel=1e-5)
