"""Pictures: colours at the right pixels, labels that can be read, sizes, and a choice of montages that share images."""

import numpy as np
import pytest
from PIL import ImageDraw

from jigclu_jax.report import pictures


def solid(side: int, value: int = 128) -> np.ndarray:
    return np.full((side, side, 3), value, np.uint8)


CLUSTER = np.array([[7, 3], [3, 12]], np.int32)
LOCATION = np.array([[0, 2], [1, 3]], np.int32)


@pytest.mark.parametrize(("size", "factor"), [(64, 6), (224, 2), (400, 1), (2, 184)])
def test_every_cell_is_outlined_in_its_clusters_colour(size: int, factor: int) -> None:
    colours = {7: (200, 0, 0), 3: (0, 200, 0), 12: (0, 0, 200)}
    picture = np.asarray(pictures.draw_montage(solid(size), CLUSTER, LOCATION, colours))
    cell = size // 2 * factor
    assert picture.shape == (2 * cell, 2 * cell, 3)
    for row in range(2):
        for column in range(2):
            inside = picture[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell]
            colour = colours[int(CLUSTER[row, column])]
            for edge in (inside[-4:], inside[:, :4].swapaxes(0, 1)[:, 40:], inside[:, -4:].swapaxes(0, 1)):
                assert (edge == colour).all()
            # content stays as it is away from outline and label
            assert (inside[60:-10, 10:-10] == 128).all()


def test_content_is_repeated_not_interpolated() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    picture = np.asarray(pictures.draw_montage(image, CLUSTER, LOCATION))
    factor = len(picture) // 8
    assert factor == 46
    centre = picture[factor // 2 :: factor, factor // 2 :: factor]
    assert (centre[1:, :] == image[1:, :]).all()  # the first row lies under the labels


def test_label_names_image_and_position_on_any_content(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    original = ImageDraw.ImageDraw.text

    def text(self: ImageDraw.ImageDraw, xy: tuple[float, float], string: str, **options: object) -> None:
        texts.append(string)
        original(self, xy, string, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    white = np.asarray(pictures.draw_montage(solid(64, 255), CLUSTER, LOCATION))
    assert texts == ["image 7 · position 0", "image 3 · position 2", "image 3 · position 1", "image 12 · position 3"]
    black = np.asarray(pictures.draw_montage(solid(64, 0), CLUSTER, LOCATION))
    # the label lies on a ground of its own: the same pixels whatever is beneath
    assert (white[4:22, 5:120] == black[4:22, 5:120]).all()
    tag = white[4:22, 5:120].reshape(-1, 3).astype(int)
    ground, ink = tag[0], tag[np.abs(tag - tag[0]).sum(1).argmax()]
    assert np.abs(ground - ink).max() > 120


def test_label_fits_its_cell_even_with_large_numbers() -> None:
    cluster = np.array([[123456, 1], [2, 3]], np.int32)
    picture = np.asarray(
        pictures.draw_montage(solid(400, 128), cluster, LOCATION, {123456: (9, 9, 9), 1: (0, 200, 0), 2: (1, 1, 1), 3: (2, 2, 2)})
    )
    assert (picture[:4, 200:400] == (0, 200, 0)).all()  # not run over


def test_colours_are_distinct_and_frequent_ids_get_the_strongest() -> None:
    clusters = np.array([5, 9, 9, 9, *range(100, 180)], np.int32)
    colours = pictures.cluster_colours(clusters)
    assert set(colours) == {5, 9, *range(100, 180)}
    assert len(set(colours.values())) == len(colours)
    assert next(iter(colours)) == 9


def test_related_montages_share_images() -> None:
    cluster = np.array([[[0, 1], [2, 3]], [[4, 5], [6, 7]], [[8, 9], [10, 11]], [[0, 1], [2, 12]], [[3, 8], [9, 10]]], np.int32)
    assert pictures.related_montages(cluster, 1) == [0]
    assert pictures.related_montages(cluster, 2) == [0, 3]
    assert pictures.related_montages(cluster, 3) == [0, 3, 4]
    assert pictures.related_montages(cluster, 4) == [0, 2, 3, 4]
    assert pictures.related_montages(cluster, 9) == [0, 1, 2, 3, 4]


def test_sheet_uses_one_colour_an_image_throughout() -> None:
    cluster = np.array([[[0, 1], [2, 3]], [[3, 2], [1, 0]], [[4, 5], [6, 7]]], np.int32)
    location = np.zeros((3, 2, 2), np.int32)
    sheet = np.asarray(pictures.montage_sheet(np.full((3, 400, 400, 3), 128, np.uint8), cluster, location, count=2, columns=2))
    gap = 20
    assert sheet.shape == (gap + 400 + 30 + gap, 2 * 400 + 3 * gap, 3)
    first, second = sheet[gap : gap + 400, gap : gap + 400], sheet[gap : gap + 400, 2 * gap + 400 : 2 * gap + 800]
    for row in range(2):
        for column in range(2):
            edge = (first[row * 200 + 198, column * 200 + 100], second[(1 - row) * 200 + 198, (1 - column) * 200 + 100])
            assert (edge[0] == edge[1]).all()
    assert (sheet[0, 0] == pictures.BACKGROUND).all()


def test_patches_sheet_draws_boxes_where_they_lie() -> None:
    image = np.full((100, 200, 3), 128, np.uint8)
    boxes = np.array([[0, 0, 160, 80], [0, 20, 160, 100], [40, 0, 200, 80], [40, 20, 200, 100]], np.int32)
    augmented = np.stack([solid(32, value) for value in (10, 60, 180, 230)])
    sheet = np.asarray(pictures.patches_sheet(image, boxes, augmented))
    colours = [np.array(pictures.cluster_colours(np.arange(4, dtype=np.int32))[location]) for location in range(4)]
    scale = 2 * 2 * 192 / 200  # the image is drawn twice as wide as the patches beside it at most
    # left edge of box 0 and 1, right edge of 2 and 3, each where no other box runs
    assert (sheet[20 + round(50 * scale), 20 + 1] == colours[0]).all()
    assert (sheet[20 + round(10 * scale), 20 + round(160 * scale) - 2] == colours[0]).all()
    assert (sheet[20 + round(90 * scale), 20 + round(160 * scale) - 7] == colours[1]).all()
    # augmented patches lie row by row: locations 0 and 2 on top
    right = sheet[:, -20 - 2 * 192 - 8 : -20]
    for location, value in enumerate((10, 60, 180, 230)):
        column, row = divmod(location, 2)
        patch = right[20 + row * 200 : 20 + row * 200 + 192, column * 200 : column * 200 + 192]
        assert (patch[40:-10, 10:-10] == value).all()
        assert (patch[-3:] == colours[location]).all()


@pytest.mark.parametrize(("shape", "grid"), [((3, 2), 2), ((1, 300), 3), ((500, 40), 4)])
def test_patches_sheet_of_odd_images(shape: tuple[int, int], grid: int) -> None:
    height, width = shape
    boxes = np.tile(np.array([[0, 0, width, height]], np.int32), (grid * grid, 1))
    picture = pictures.patches_sheet(np.zeros((height, width, 3), np.uint8), boxes, np.zeros((grid * grid, 10, 10, 3), np.uint8))
    assert picture.width < 6000 and picture.height < 3000
