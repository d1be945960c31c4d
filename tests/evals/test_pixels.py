import numpy as np
import pytest

from jigclu_jax.evals.pixels import colour_histogram, pixel_features


def test_pixels_of_an_image_that_needs_no_shrinking_are_its_values():
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    assert np.array_equal(pixel_features(images, side=4), images.reshape(3, -1).astype(np.float32) / 255)


def test_pixels_are_block_means():
    images = np.random.default_rng(1).integers(0, 256, (2, 8, 12, 3), dtype=np.uint8)
    expected = images.reshape(2, 4, 2, 4, 3, 3).mean(axis=(2, 4)).reshape(2, -1) / 255
    np.testing.assert_allclose(pixel_features(images, side=4), expected, atol=1.01 / 255)  # rounded along each axis


def test_histogram_against_numpy():
    images = np.random.default_rng(2).integers(0, 256, (4, 9, 7, 3), dtype=np.uint8)
    rows = colour_histogram(images, bins=4)
    for image, row in zip(images, rows, strict=True):
        counts, _ = np.histogramdd(image.reshape(-1, 3), bins=(np.arange(5) * 64,) * 3)
        np.testing.assert_allclose(row**2, counts.ravel() / 63, atol=1e-6)


@pytest.mark.parametrize("bins", [1, 3, 6, 16])
def test_histogram_counts_every_pixel_once_and_ignores_where_it_lies(bins):
    images = np.random.default_rng(3).integers(0, 256, (2, 6, 6, 3), dtype=np.uint8)
    images[0, 0, 0], images[0, 0, 1] = 0, 255
    rows = colour_histogram(images, bins)
    assert rows.shape == (2, bins**3)
    np.testing.assert_allclose((rows**2).sum(1), 1, atol=1e-5)
    assert np.array_equal(rows, colour_histogram(images[:, ::-1, ::-1], bins))
