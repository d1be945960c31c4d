"""Patch boxes against the authors' formula and Pillow's own crop; sizes and overlaps that cannot work."""

import numpy as np
import pytest
from named_errors import raises_naming
from PIL import Image

from jigclu_jax.data.augment.boxes import check_overlap, patch_boxes, patch_side
from jigclu_jax.errors import UserError


def authors_boxes(width: int, height: int, overlap: float) -> list[tuple[float, float, float, float]]:
    """Four corner crops as the authors' code writes them, in their order: top left, bottom left, top right, bottom right."""
    x, y = overlap * width, overlap * height
    right, bottom = width // 2 + x, height // 2 + y
    left, top = width // 2 - x, height // 2 - y
    return [(0, 0, right, bottom), (0, top, right, height), (left, 0, width, bottom), (left, top, width, height)]


@pytest.mark.parametrize("overlap", [0.0, 0.1, 0.3])
def test_two_by_two_is_the_authors_split_as_pillow_crops_it(overlap: float) -> None:
    rng = np.random.default_rng(0)
    sizes = [(w, h) for w in (7, 10, 15, 33, 64) for h in (5, 9, 20, 35)] + rng.integers(20, 700, (60, 2)).tolist()
    for width, height in sizes:
        # a crop of the coordinates tells what Pillow took
        xs = Image.fromarray(np.tile(np.arange(width, dtype=np.int32), (height, 1)))
        ys = Image.fromarray(np.tile(np.arange(height, dtype=np.int32)[:, None], (1, width)))
        for box, authors in zip(patch_boxes(width, height, 2, overlap).tolist(), authors_boxes(width, height, overlap), strict=True):
            taken_x, taken_y = np.asarray(xs.crop(authors)), np.asarray(ys.crop(authors))
            assert box == [taken_x.min(), taken_y.min(), taken_x.max() + 1, taken_y.max() + 1], (width, height)


@pytest.mark.parametrize("grid", [2, 3, 4, 5, 6])
def test_location_is_column_times_m_plus_row(grid: int) -> None:
    boxes = patch_boxes(300, 240, grid, 0.3)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    for location, (x, y) in enumerate(centres):
        column, row = divmod(location, grid)
        assert int(x * grid / 300) == column and int(y * grid / 240) == row


@pytest.mark.parametrize("grid", [2, 3, 4, 5, 6])
def test_boxes_cover_the_image_overlap_by_the_reach_and_stay_inside(grid: int) -> None:
    for width, height in ((97, 301), (224, 224), (53, 60)):
        boxes = patch_boxes(width, height, grid, 0.3)
        covered = np.zeros((height, width), bool)
        for left, top, right, bottom in boxes:
            assert 0 <= left < right <= width and 0 <= top < bottom <= height
            covered[top:bottom, left:right] = True
        assert covered.all()
        reach = 0.3 / (grid - 1) * width
        columns = boxes[::grid]
        overlaps = columns[:-1, 2] - columns[1:, 0]
        inner = slice(None) if grid == 2 else slice(1, -1)  # clipped at the image's edge otherwise
        np.testing.assert_allclose(overlaps[inner], 2 * reach, atol=1.01)


def test_no_overlap_is_the_plain_grid() -> None:
    expected = [
        (0, 0, 2, 3),
        (0, 3, 2, 6),
        (0, 6, 2, 9),
        (2, 0, 4, 3),
        (2, 3, 4, 6),
        (2, 6, 4, 9),
        (4, 0, 7, 3),
        (4, 3, 7, 6),
        (4, 6, 7, 9),
    ]
    assert [tuple(box) for box in patch_boxes(7, 9, 3, 0.0).tolist()] == expected


def test_grid_of_one_is_the_whole_image() -> None:
    assert patch_boxes(31, 17, 1, 0.3).tolist() == [[0, 0, 31, 17]]


@pytest.mark.parametrize("grid", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (3, 200), (200, 3), (4, 5)])
def test_tiny_images_keep_a_pixel_in_every_box(grid: int, size: tuple[int, int]) -> None:
    width, height = size
    for overlap in (0.0, 0.3):
        for left, top, right, bottom in patch_boxes(width, height, grid, overlap).tolist():
            assert 0 <= left < right <= width and 0 <= top < bottom <= height


def test_patch_side() -> None:
    assert patch_side(224, 2) == 112 and patch_side(222, 3) == 74
    with raises_naming("image_size=224", "grid=3", "222", "225"):
        patch_side(224, 3)
    for size, grid in ((224, 0), (1, 2), (0, 1)):
        with pytest.raises(UserError):
            patch_side(size, grid)


@pytest.mark.parametrize("grid", [2, 3, 4])
def test_overlap_limit_is_where_every_crop_becomes_the_whole_image(grid: int) -> None:
    limit = (grid - 1) ** 2 / grid
    check_overlap(grid, 0.0)
    check_overlap(grid, 0.3)
    check_overlap(grid, limit)
    assert (patch_boxes(1200, 1200, grid, limit) == [0, 0, 1200, 1200]).all()
    assert not (patch_boxes(1200, 1200, grid, limit - 0.01) == [0, 0, 1200, 1200]).all()
    for overlap in (-0.01, limit + 0.01, float("nan")):
        with pytest.raises(UserError, match="overlap"):
            check_overlap(grid, overlap)
