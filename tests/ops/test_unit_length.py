"""Unit vectors of JAX and of numpy, and rows without a direction."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jigclu_jax.ops.unit_length import unit_length


@pytest.mark.parametrize("of", [np.asarray, jnp.asarray])
def test_rows_have_length_one_and_keep_their_direction(of: Callable[..., Any]) -> None:
    x = np.random.default_rng(0).normal(size=(2, 5, 300)).astype(np.float32)
    x[1, 4] = 0
    unit = unit_length(of(x))
    assert isinstance(unit, type(of(x))) and unit.dtype == np.float32
    expected = x / np.maximum(np.linalg.norm(x.astype(np.float64), axis=-1, keepdims=True), 1e-12)
    np.testing.assert_allclose(unit, expected, rtol=3e-7)
    assert not np.asarray(unit)[1, 4].any()


def test_zeros_have_a_finite_gradient() -> None:
    value, grad = jax.value_and_grad(lambda x: unit_length(x).sum())(jnp.zeros((2, 4)))
    assert value == 0 and np.isfinite(grad).all()
