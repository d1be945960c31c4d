"""The ImageNet stem: its pool against numpy and XLA's derivative, its convolution against the one that it stands for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jigclu_jax.models.stem import max_pool, strided_7x7


@pytest.mark.parametrize("side", [(7, 8), (6, 5), (1, 2)])
def test_max_pool_pads_with_less_than_any_number(side: tuple[int, int]) -> None:
    x = -1.0 - np.random.default_rng(0).random((2, *side, 3)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    height, width = ((s - 1) // 2 + 1 for s in side)
    expected = np.stack(
        [np.stack([padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max((1, 2)) for j in range(width)], 1) for i in range(height)], 1
    )
    np.testing.assert_array_equal(max_pool(jnp.asarray(x)), expected)
    np.testing.assert_array_equal(jax.jit(max_pool)(jnp.asarray(x, "bfloat16")), jnp.asarray(expected, "bfloat16"))


@pytest.mark.parametrize("side", [(7, 8), (6, 5), (1, 2)])
def test_the_first_of_equal_values_has_the_gradient(side: tuple[int, int]) -> None:
    """Small whole numbers: most windows hold their maximum several times. XLA's own derivative takes the first, as PyTorch does."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.integers(-2, 3, (2, *side, 3)), "float32")

    def by_xla(x: jax.Array) -> jax.Array:
        return lax.reduce_window(x, np.float32(-np.inf), lax.max, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0)))

    expected, backward = jax.vjp(by_xla, x)
    found, ours = jax.vjp(jax.jit(max_pool), x)
    np.testing.assert_array_equal(found, expected)
    along = jnp.asarray(rng.integers(-9, 9, found.shape), "float32")
    np.testing.assert_array_equal(ours(along)[0], backward(along)[0])


def test_a_maximum_is_nan_where_a_value_is() -> None:
    x = jnp.zeros((1, 4, 4, 1)).at[0, 1, 1].set(jnp.nan)
    np.testing.assert_array_equal(np.isnan(max_pool(x)[0, :, :, 0]), True)


@pytest.mark.parametrize("side", [(8, 8), (7, 8), (6, 5), (1, 2)])
def test_the_7x7_and_its_derivatives_are_those_of_a_strided_convolution(side: tuple[int, int]) -> None:
    with jax.enable_x64():
        rng = np.random.default_rng(0)
        x, kernel = jnp.asarray(rng.normal(size=(2, *side, 3))), jnp.asarray(rng.normal(size=(7, 7, 3, 5)))

        def plain(x: jax.Array, kernel: jax.Array) -> jax.Array:
            return lax.conv_general_dilated(x, kernel, (2, 2), ((3, 3), (3, 3)), dimension_numbers=("NHWC", "HWIO", "NHWC"))

        (expected, backward), (found, ours) = (jax.vjp(f, x, kernel) for f in (plain, strided_7x7))
        np.testing.assert_allclose(found, expected, atol=1e-12)
        along = jnp.asarray(rng.normal(size=found.shape))
        for gradient, wanted in zip(ours(along), backward(along), strict=True):
            np.testing.assert_allclose(gradient, wanted, atol=1e-12)
