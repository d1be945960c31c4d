"""Normalisation against the definition, in float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from jigclu_jax.ops import normalize


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("bfloat16", 8e-3)])
def test_every_byte(dtype: str, tolerance: float) -> None:
    image = np.arange(256, dtype=np.uint8)[:, None] * np.ones(3, np.uint8)
    expected = (np.arange(256)[:, None] / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    y = normalize(jnp.asarray(image.reshape(16, 16, 3)), dtype)
    assert y.dtype == jnp.dtype(dtype)
    np.testing.assert_allclose(np.asarray(y, np.float64).reshape(256, 3), expected, rtol=tolerance, atol=tolerance)


def test_floats_of_the_same_range() -> None:
    image = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), np.uint8)
    np.testing.assert_array_equal(normalize(jnp.asarray(image)), normalize(jnp.asarray(image, jnp.float32)))
