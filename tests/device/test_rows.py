"""Images as rows of words: nothing is lost on the way, whatever the side, and rows are found on whatever device they lie."""

import jax.numpy as jnp
import numpy as np
import pytest

from jigclu_jax.device.mesh import create_mesh
from jigclu_jax.device.rows import pack, take, unpack, words_of


@pytest.mark.parametrize("side", [1, 2, 7, 24, 32, 75])
def test_an_image_comes_back_as_its_planes(side: int) -> None:
    images = np.random.default_rng(side).integers(0, 256, (5, side, side, 3), np.uint8)
    rows = np.stack([pack(image) for image in images])
    assert rows.shape == (5, words_of(side)) and rows.dtype == np.uint32
    np.testing.assert_array_equal(unpack(jnp.asarray(rows), side), images.transpose(0, 3, 1, 2))


def test_a_row_takes_three_bytes_a_pixel_and_at_most_half_a_kilobyte_more() -> None:
    for side in range(1, 300):
        assert 0 <= 4 * words_of(side) - 3 * side * side < 512
        assert words_of(side) % 128 == 0


def test_rows_are_taken_by_number() -> None:
    rows = jnp.arange(40, dtype=jnp.uint32).reshape(10, 4)
    wanted = jnp.array([7, 0, 7, 9])
    np.testing.assert_array_equal(take(rows, wanted, create_mesh(devices=None)), np.asarray(rows)[[7, 0, 7, 9]])
