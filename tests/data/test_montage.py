"""Shuffling and pasting: from the label grids back to every patch, and the groups that fit a batch."""

import numpy as np
import pytest
from data.batches import PAPER
from named_errors import raises_naming

from jigclu_jax.data.augment.boxes import mirrored
from jigclu_jax.data.input import montage
from jigclu_jax.data.view import View
from jigclu_jax.errors import UserError


def view(grid: int = 2, group: int = 0, repeats: int = 1) -> View:
    return View("montage", 5, PAPER, grid, 0.0, repeats, grid, group)


@pytest.mark.parametrize("grid", [2, 3, 4, 5])
@pytest.mark.parametrize("host", [0, 4])
def test_every_patch_is_found_where_the_label_grids_say(grid: int, host: int) -> None:
    images, side, k = 6, 5, grid * grid
    patches = np.random.default_rng(0).integers(0, 256, (images, k, side, side, 3), dtype=np.uint8)
    found = montage.layout(view(grid), 1, 2, group=3, local=images, host=host)
    pasted = np.asarray(montage.assemble(patches.reshape(images * k, side, side, 3), found.order, grid))
    cluster, position = found.cluster, found.position
    assert pasted.shape == (images, grid * side, grid * side, 3) and cluster.dtype == position.dtype == np.int32
    seen = set()
    for i in range(images):
        for row in range(grid):
            for column in range(grid):
                cell = pasted[i, row * side : (row + 1) * side, column * side : (column + 1) * side]
                image, place = cluster[i, row, column] - host * images, position[i, row, column]
                np.testing.assert_array_equal(cell, patches[image, place])
                assert image // 3 == i // 3, "within its group"
                seen.add((int(image), int(place)))
    assert len(seen) == images * k


@pytest.mark.parametrize("grid", [2, 3])
def test_a_mirrored_location_swaps_columns_and_keeps_rows(grid: int) -> None:
    """Against a picture whose cells are numbered as locations are, down the columns."""
    numbered = np.arange(grid * grid, dtype=np.int32).reshape(grid, grid).T
    assert mirrored(numbered, grid).tolist() == numbered[:, ::-1].tolist()


def test_montage_takes_the_crops_in_row_major_cells() -> None:
    patches = np.arange(8, dtype=np.uint8)[:, None].repeat(3, 1).reshape(8, 1, 1, 3)
    order = np.array([7, 0, 3, 4, 1, 2, 5, 6], np.int32)
    assert np.asarray(montage.assemble(patches, order, 2))[..., 0].tolist() == [[[7, 0], [3, 4]], [[1, 2], [5, 6]]]


def test_layout_depends_on_seed_step_group_and_view_alone() -> None:
    def order(seed: int, step: int, host: int, stream: int = 0) -> tuple[int, ...]:
        return tuple(montage.layout(view(), seed, step, group=10, local=10, host=host, stream=stream).order.tolist())

    assert order(0, 1, 2) == order(0, 1, 2)
    assert len({order(0, 1, 2), order(1, 1, 2), order(0, 2, 2), order(0, 1, 3), order(0, 1, 2, 1)}) == 5


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
    assert montage.shuffle_group(view(group=configured), batch, hosts) == group


@pytest.mark.parametrize(
    ("configured", "batch", "hosts", "fits"), [(0, 256, 2, 128), (128, 256, 4, 64), (48, 64, 1, 32), (200, 300, 2, 150)]
)
def test_groups_that_do_not_fit_a_host_are_refused_with_the_value_that_does(configured: int, batch: int, hosts: int, fits: int) -> None:
    with raises_naming("shuffle_group", str(fits)):
        montage.shuffle_group(view(group=configured), batch, hosts)
    assert montage.shuffle_group(view(group=fits), batch, hosts) == fits


def test_groups_hold_whole_montages() -> None:
    """Three crops an image in montages of four: groups of four images or a multiple."""
    odd = View("odd", 5, PAPER, repeats=3, montage=2)
    assert montage.shuffle_group(odd, 12, 1) == 12 and montage.shuffle_group(odd, 300, 1) == 100
    with pytest.raises(UserError, match="batch_size"):
        montage.shuffle_group(odd, 6, 1)
