"""Crops on the accelerator against Pillow's crop and resize, and the cells of an image against the host's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from data.pictures import natural
from PIL import Image

from jigclu_jax.data.augment.boxes import patch_boxes
from jigclu_jax.ops.crop import cell_boxes, crop_and_resize, resize_matrix
from jigclu_jax.ops.montage import from_planes, to_planes


@pytest.mark.parametrize(("grid", "overlap"), [(1, 0.0), (2, 0.3), (2, 0.0), (3, 0.3), (4, 0.41), (5, 0.1)])
def test_cells_are_the_hosts(grid: int, overlap: float) -> None:
    sizes = [(int(w), int(h)) for w, h in np.random.default_rng(grid).integers(1, 700, (200, 2))] + [(375, 500), (5, 5), (1, 1)]
    expected = np.concatenate([patch_boxes(width, height, grid, overlap) for width, height in sizes])
    width, height = (np.repeat(np.array(sides, np.int32), grid * grid) for sides in zip(*sizes, strict=True))
    location = np.tile(np.arange(grid * grid, dtype=np.int32), len(sizes))
    got = jax.jit(cell_boxes, static_argnums=(3, 4))(width, height, location, grid, overlap)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("side", [8, 60])
def test_a_crop_is_pillows(side: int) -> None:
    rng, images = np.random.default_rng(side), np.stack([natural(48, 64, index) for index in range(30)])
    left, top = rng.integers(0, 40, 30), rng.integers(0, 30, 30)
    boxes = np.stack([left, top, left + rng.integers(1, 24, 30), top + rng.integers(1, 18, 30)], axis=1)
    flip = np.arange(30) % 2 == 0
    cut = jax.jit(lambda images, boxes, flip: from_planes(crop_and_resize(to_planes(images), boxes, side, flip)))
    got = np.asarray(cut(images, boxes.astype(np.float32), flip))
    for index, box in enumerate(boxes.tolist()):
        expected = np.asarray(Image.fromarray(images[index]).crop(box).resize((side, side), Image.Resampling.BILINEAR)).astype(int)
        difference = np.abs(got[index] - (expected[:, ::-1] if flip[index] else expected))
        # Pillow's weights are whole multiples of 2 ** -22, ours are float32: they part where a sum lies on a half (small scales: often)
        assert difference.max() <= 1 and difference.mean() < 0.25


def test_edges_between_pixels_move_the_crop_and_rows_sum_to_one() -> None:
    ramp = np.arange(64.0)
    matrix = np.asarray(jax.jit(resize_matrix, static_argnums=(2, 3))(jnp.array([10.0, 10.5]), jnp.array([30.0, 30.5]), 64, 10))
    np.testing.assert_allclose(matrix.sum(axis=2), 1.0, rtol=1e-6)
    whole, moved = matrix @ ramp
    np.testing.assert_allclose((moved - whole)[2:-2], 0.5, atol=1e-4)


def test_a_stretched_image_gives_the_picture_of_the_original() -> None:
    """What resident data rests on: stretch to a square, cut the scaled box; beside Pillow's cut of the original."""
    image = Image.fromarray(natural(120, 180, 3))
    square = np.asarray(image.resize((150, 150), Image.Resampling.BILINEAR))
    box = (20, 10, 140, 100)
    expected = np.asarray(image.crop(box).resize((40, 40), Image.Resampling.BILINEAR)).astype(int)
    scaled = np.float32(box) * np.float32([150 / 180, 150 / 120, 150 / 180, 150 / 120])
    got = np.asarray(jax.jit(lambda x, boxes: from_planes(crop_and_resize(to_planes(x), boxes, 40)))(square[None], scaled[None]))[0]
    assert np.abs(got - expected).mean() < 2.0
