"""Pictures: colours, labels, the network's own pixels, and a choice of montages that share images."""

import base64
import io
import re
from collections.abc import Iterator
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from jigclu_jax.report import pictures

SVG = "{http://www.w3.org/2000/svg}"
CLUSTER = np.array([[7, 3], [3, 12]], np.int32)
LOCATION = np.array([[0, 2], [1, 3]], np.int32)


def parsed(drawing: pictures.Drawing) -> ElementTree.Element:
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", drawing.svg)
    return ElementTree.fromstring(drawing.svg)


def texts(root: ElementTree.Element) -> list[str]:
    return [node.text or "" for node in root.iter(f"{SVG}text")]


def frames(root: ElementTree.Element) -> list[str]:
    """The colours of the frames in order, without their hairlines."""
    return [node.get("stroke", "") for node in root.iter(f"{SVG}rect") if node.get("stroke-width") == "4"]


def images(root: ElementTree.Element) -> Iterator[np.ndarray]:
    for node in root.iter(f"{SVG}image"):
        yield np.asarray(Image.open(io.BytesIO(base64.b64decode(node.get("href", "").partition(",")[2]))))


@pytest.mark.parametrize(("size", "factor"), [(64, 6), (224, 2), (400, 1), (2, 184)])
def test_a_montage_shows_the_networks_pixels_and_every_cells_image_and_position(size: int, factor: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    colours = {7: "#c80000", 3: "#00c800", 12: "#0000c8"}
    drawing = pictures.draw_montage(image, CLUSTER, LOCATION, colours)
    root = parsed(drawing)
    assert (drawing.width, drawing.height) == (size * factor, size * factor)
    (shown,) = images(root)
    assert (shown == image).all()
    assert frames(root) == ["#c80000", "#00c800", "#00c800", "#0000c8"]
    assert texts(root) == ["image 7 · position 0", "image 3 · position 2", "image 3 · position 1", "image 12 · position 3"]


def test_colours_are_distinct_and_frequent_ids_get_the_strongest() -> None:
    clusters = np.array([5, 9, 9, 9, *range(100, 180)], np.int32)
    colours = pictures.cluster_colours(clusters)
    assert set(colours) == {5, 9, *range(100, 180)}
    assert len(set(colours.values())) == len(colours) and all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in colours.values())
    assert next(iter(colours)) == 9


def test_related_montages_share_images() -> None:
    cluster = np.array([[[0, 1], [2, 3]], [[4, 5], [6, 7]], [[8, 9], [10, 11]], [[0, 1], [2, 12]], [[3, 8], [9, 10]]], np.int32)
    assert pictures.related_montages(cluster, 1) == [0]
    assert pictures.related_montages(cluster, 2) == [0, 3]
    assert pictures.related_montages(cluster, 3) == [0, 3, 4]
    assert pictures.related_montages(cluster, 4) == [0, 2, 3, 4]
    assert pictures.related_montages(cluster, 9) == [0, 1, 2, 3, 4]


def test_a_sheet_uses_one_colour_an_image_throughout() -> None:
    cluster = np.array([[[0, 1], [2, 3]], [[3, 2], [1, 0]], [[4, 5], [6, 7]]], np.int32)
    location = np.zeros((3, 2, 2), np.int32)
    root = parsed(pictures.montage_sheet(np.full((3, 400, 400, 3), 128, np.uint8), cluster, location, count=2, columns=2))
    first, second = frames(root)[:4], frames(root)[4:]
    assert first == second[::-1] and len(set(first)) == 4
    assert texts(root)[4::5] == ["montage 0", "montage 1"]


def test_captions_of_a_row_stand_on_one_line_in_the_ink_of_the_page() -> None:
    drawn = [pictures.picture(np.zeros((height, 50, 3), np.uint8), height) for height in (60, 90, 120)]
    root = parsed(pictures.sheet(drawn, ["a", "b", "\N{CJK UNIFIED IDEOGRAPH-732B} <&>"], columns=3))
    lines = [node for node in root if node.find(f"{SVG}text") is not None]
    assert len({node.get("y") for node in lines}) == 1 and float(lines[0].get("y", 0)) >= 120
    assert texts(root) == ["a", "b", "\N{CJK UNIFIED IDEOGRAPH-732B} <&>"]
    assert {node.get("fill") for node in root.iter(f"{SVG}text")} == {"currentColor"}
    assert "prefers-color-scheme:dark" in (root[0].text or "") and root.find(f"{SVG}rect") is None, "the ground is the page's"


def test_patches_sheet_has_the_image_its_crops_and_the_patches_row_by_row() -> None:
    image = np.full((100, 200, 3), 128, np.uint8)
    boxes = np.array([[0, 0, 160, 80], [0, 20, 160, 100], [40, 0, 200, 80], [40, 20, 200, 100]], np.int32)
    augmented = np.stack([np.full((32, 32, 3), value, np.uint8) for value in (10, 60, 180, 230)])
    root = parsed(pictures.patches_sheet(image, boxes, augmented))
    shown = list(images(root))
    assert shown[0].shape == (100, 200, 3) and {crop.shape for crop in shown[1:5]} == {(80, 160, 3)}
    assert [int(patch[0, 0, 0]) for patch in shown[5:]] == [10, 180, 60, 230], "locations run down the columns"
    colours = frames(root)
    assert len(set(colours)) == 4 and [colours[place] for place in (0, 2, 1, 3)] == colours[4:8] == colours[8:]
    assert "image, 200 by 100 pixels" in texts(root) and "augmented patches, 32 pixels" in texts(root)


@pytest.mark.parametrize(("shape", "grid"), [((3, 2), 2), ((1, 300), 3), ((500, 40), 4), ((4000, 3000), 2)])
def test_patches_sheet_of_odd_images(shape: tuple[int, int], grid: int) -> None:
    height, width = shape
    boxes = np.tile(np.array([[0, 0, width, height]], np.int32), (grid * grid, 1))
    drawing = pictures.patches_sheet(np.zeros((height, width, 3), np.uint8), boxes, np.zeros((grid * grid, 10, 10, 3), np.uint8))
    assert drawing.width < 6000 and drawing.height < 3000 and len(drawing.svg) < 1_000_000
    parsed(drawing)


def test_places_and_neighbours() -> None:
    patches = np.zeros((4, 8, 8, 3), np.uint8)
    root = parsed(pictures.places_sheet({"host": patches, "device": patches + 2}))
    assert len(list(images(root))) == 8 and ["augment=host" in texts(root), any("2 of 255" in text for text in texts(root))] == [True, True]
    root = parsed(pictures.neighbours_sheet([patches[0]], [[patches[1], patches[2]]], [[True, False]], [["a", "a", "\N{SNOWMAN}"]]))
    assert texts(root) == ["a", "a", "\N{SNOWMAN}"] and len(set(frames(root))) == 2
