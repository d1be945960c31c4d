"""Shuffling and pasting: from the label grids back to every patch, and the groups that fit a batch."""

import numpy as np
import pytest

from jigclu_jax.data.input import montage
from jigclu_jax.errors import UserError


@pytest.mark.parametrize("grid", [2, 3, 4, 5])
@pytest.mark.parametrize("first", [0, 24])
def test_every_patch_is_found_where_the_label_grids_say(grid: int, first: int) -> None:
    images, side, k = 6, 5, grid * grid
    patches = np.random.default_rng(0).integers(0, 256, (images, k, side, side, 3), dtype=np.uint8)
    order = montage.permutation(1, 2, 3, images * k)
    pasted = np.asarray(montage.assemble_tf(patches.reshape(images * k, side, side, 3), order, grid))
    cluster, location = montage.label_grids(order, grid, first)
    assert pasted.shape == (images, grid * side, grid * side, 3) and cluster.dtype == location.dtype == np.int32
    seen = set()
    for i in range(images):
        for row in range(grid):
            for column in range(grid):
                cell = pasted[i, row * side : (row + 1) * side, column * side : (column + 1) * side]
                image, place = cluster[i, row, column] - first, location[i, row, column]
                np.testing.assert_array_equal(cell, patches[image, place])
                seen.add((int(image), int(place)))
    assert len(seen) == images * k


def test_montage_takes_the_permuted_patches_in_row_major_cells() -> None:
    patches = np.arange(8, dtype=np.uint8)[:, None].repeat(3, 1).reshape(8, 1, 1, 3)
    order = np.array([7, 0, 3, 4, 1, 2, 5, 6], np.int32)
    assert np.asarray(montage.assemble_tf(patches, order, 2))[..., 0].tolist() == [[[7, 0], [3, 4]], [[1, 2], [5, 6]]]
    cluster, location = montage.label_grids(order, 2, 0)
    assert cluster.tolist() == [[[1, 0], [0, 1]], [[0, 0], [1, 1]]] and location.tolist() == [[[3, 0], [3, 0]], [[1, 2], [1, 2]]]


def test_permutation_depends_on_seed_step_and_group_alone() -> None:
    assert montage.permutation(0, 1, 2, 40).tolist() == montage.permutation(0, 1, 2, 40).tolist()
    different = {tuple(montage.permutation(*key, 40).tolist()) for key in ((0, 1, 2), (1, 1, 2), (0, 2, 2), (0, 1, 3))}
    assert len(different) == 4


@pytest.mark.parametrize(
    ("configured", "batch", "hosts", "group"),
    [
        (0, 64, 1, 64),
        (0, 256, 1, 256),
        (0, 512, 1, 256),
        (0, 512, 2, 256),
        (0, 300, 1, 150),
        (0, 1, 1, 1),
        (32, 256, 4, 32),
        (257, 257, 1, 257),
    ],
)
def test_groups(configured: int, batch: int, hosts: int, group: int) -> None:
    assert montage.shuffle_group(configured, batch, hosts) == group


@pytest.mark.parametrize(
    ("configured", "batch", "hosts", "fits"), [(0, 256, 2, 128), (128, 256, 4, 64), (48, 64, 1, 32), (200, 300, 2, 150)]
)
def test_groups_that_do_not_fit_a_host_are_refused_with_the_value_that_does(configured: int, batch: int, hosts: int, fits: int) -> None:
    with pytest.raises(UserError, match=f"set method.shuffle_group to {fits}$"):
        montage.shuffle_group(configured, batch, hosts)
    assert montage.shuffle_group(fits, batch, hosts) == fits
    with pytest.raises(UserError, match="negative"):
        montage.shuffle_group(-1, batch, hosts)
