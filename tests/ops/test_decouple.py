"""Decoupling against a slow bilinear resize and a slow average, written pixel by pixel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from named_errors import raises_naming

from jigclu_jax.ops import decouple, decouple_size


def slow_resize(image: np.ndarray, size: int) -> np.ndarray:
    """[h, w, d] -> [size, size, d] as `F.interpolate(mode="bilinear", align_corners=False)` does, no anti-aliasing."""
    height, width, depth = image.shape
    result = np.zeros((size, size, depth))
    for i in range(size):
        for j in range(size):
            y = max((i + 0.5) * height / size - 0.5, 0.0)
            x = max((j + 0.5) * width / size - 0.5, 0.0)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            upper = image[top, left] * (1 - (x - left)) + image[top, right] * (x - left)
            lower = image[bottom, left] * (1 - (x - left)) + image[bottom, right] * (x - left)
            result[i, j] = upper * (1 - (y - top)) + lower * (y - top)
    return result


def slow_pool(image: np.ndarray, grid: int) -> np.ndarray:
    """[s, s, d] -> [grid, grid, d], the average of each cell."""
    cell = len(image) // grid
    return np.array([[image[r * cell : (r + 1) * cell, k * cell : (k + 1) * cell].mean((0, 1)) for k in range(grid)] for r in range(grid)])


SIDES = {2: 8, 3: 9, 4: 8, 5: 10}


@pytest.mark.parametrize("grid", [2, 3, 4, 5])
@pytest.mark.parametrize("side", [1, 2, 3, 4, 7, 8])
def test_default_size_of_a_small_map(grid: int, side: int) -> None:
    size = SIDES[grid]
    assert decouple_size(grid, side) == size
    features = np.random.default_rng(side).standard_normal((2, side, side, 3)).astype(np.float32)
    expected = np.array([slow_pool(slow_resize(image, size), grid) for image in features.astype(np.float64)])
    np.testing.assert_allclose(jax.jit(decouple, static_argnums=1)(jnp.asarray(features), grid), expected, atol=2e-6)


@pytest.mark.parametrize(
    ("grid", "side", "size"), [(2, 9, 8), (2, 14, 8), (2, 28, 8), (3, 9, 9), (3, 10, 12), (4, 9, 12), (4, 12, 12), (5, 11, 15), (5, 28, 30)]
)
def test_default_size_of_a_large_map(grid: int, side: int, size: int) -> None:
    assert decouple_size(grid, side) == size
    features = np.random.default_rng(side).standard_normal((1, side, side, 2)).astype(np.float32)
    expected = slow_pool(slow_resize(features[0].astype(np.float64), size), grid)
    np.testing.assert_allclose(decouple(jnp.asarray(features), grid)[0], expected, atol=2e-6)


def test_size_from_the_config() -> None:
    features = np.random.default_rng(0).standard_normal((1, 7, 7, 2)).astype(np.float32)
    expected = slow_pool(slow_resize(features[0].astype(np.float64), 14), 2)
    np.testing.assert_allclose(decouple(jnp.asarray(features), 2, 14)[0], expected, atol=2e-6)
    with raises_naming("decouple_size=9", "grid=2"):
        decouple(jnp.asarray(features), 2, 9)


def test_rows_come_before_columns() -> None:
    features = jnp.zeros((1, 8, 8, 1)).at[0, 5, 1].set(16.0)
    np.testing.assert_array_equal(decouple(features, 2)[0, :, :, 0], [[0.0, 0.0], [1.0, 0.0]])


def test_constant_maps_stay_and_bfloat16_comes_out_in_float32() -> None:
    y = decouple(jnp.full((1, 7, 7, 2), 3.0, "bfloat16"), 3)
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, 3.0, rtol=1e-6)


def test_gradient_sums_to_one_a_vector() -> None:
    grad = jax.grad(lambda x: decouple(x, 3).sum())(jnp.ones((1, 7, 7, 1)))
    assert float(grad.sum()) == pytest.approx(9.0, rel=1e-5)
    assert (np.asarray(grad) > 0).all()
