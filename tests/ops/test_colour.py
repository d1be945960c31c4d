"""Colour, blur and flip on the accelerator against Pillow and against the host's TensorFlow, with the same parameters."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from data.batches import PAPER
from data.pictures import natural
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from jigclu_jax.data.augment import host_pictures as tf_ops
from jigclu_jax.data.augment.law import Law
from jigclu_jax.data.augment.parameters import draw
from jigclu_jax.data.augment.streams import crop_keys
from jigclu_jax.ops import colour
from jigclu_jax.ops.blur import blur
from jigclu_jax.ops.montage import from_planes, join_cells, split_cells, to_planes

SIDE, COUNT = 40, 24


def patches(seed: int = 0) -> np.ndarray:
    return np.stack([natural(SIDE, SIDE, seed + index) for index in range(COUNT)])


def planes_of(images: np.ndarray) -> jax.Array:
    return jnp.asarray(images.transpose(0, 3, 1, 2), jnp.float32)


def difference(planes: jax.Array, expected: np.ndarray) -> np.ndarray:
    got = np.asarray(planes).transpose(0, 2, 3, 1)
    assert (got == np.rint(got)).all() and got.min() >= 0 and got.max() <= 255
    return np.abs(got - expected.astype(np.float64))


def by_pillow(images: np.ndarray, change: Callable[[Image.Image, float], Image.Image], values: np.ndarray) -> np.ndarray:
    return np.stack([np.asarray(change(Image.fromarray(image), float(value))) for image, value in zip(images, values, strict=True)])


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_blends_are_pillows(name: str) -> None:
    images, factors = patches(), (np.rint(np.random.default_rng(1).uniform(0.3, 1.9, COUNT) * 2**14) / 2**14).astype(np.float32)
    planes = planes_of(images)
    gray = colour.luma(planes)
    other = {"brightness": jnp.zeros_like(gray), "contrast": colour.rounded_mean(gray), "saturation": gray}[name]
    enhancer = {"brightness": ImageEnhance.Brightness, "contrast": ImageEnhance.Contrast, "saturation": ImageEnhance.Color}[name]
    expected = by_pillow(images, lambda image, factor: enhancer(image).enhance(factor), factors)
    assert difference(colour.blend(planes, other, jnp.asarray(factors)), expected).mean() < 0.01


def test_hue_is_pillows() -> None:
    images, shifts = patches(), np.arange(COUNT) * 10 % 256

    def turn(image: Image.Image, shift: float) -> Image.Image:
        hue, saturation, value = image.convert("HSV").split()
        return Image.merge("HSV", (Image.fromarray(np.asarray(hue) + np.uint8(shift)), saturation, value)).convert("RGB")

    error = difference(colour.shift_hue(planes_of(images), jnp.asarray(shifts, jnp.float32)), by_pillow(images, turn, shifts))
    assert error.mean() < 0.1


@pytest.mark.parametrize("place", ["device", "host"])
def test_hue_is_the_same_whole_number_everywhere(place: str, request: pytest.FixtureRequest) -> None:
    """Against integers of any length, also where a quotient is whole: a rounding to either side shows there."""
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, SIDE, SIDE, 3))
    pixels[: COUNT // 2] = pixels[: COUNT // 2] // 51 * 51
    shifts = np.arange(COUNT) * 11 % 256
    planes = planes_of(pixels)
    if place == "host":
        request.getfixturevalue("needs_tensorflow")
        found = tf_ops.shift_hue(np.asarray(planes), shifts.astype(np.float32))
    else:
        found = jax.jit(colour.shift_hue)(planes, jnp.asarray(shifts, jnp.float32))
    np.testing.assert_array_equal(np.asarray(found).transpose(0, 2, 3, 1), turned(pixels, shifts[:, None, None]))


def turned(pixels: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Pillow's formulas (Convert.c: rgb2hsv, hsv2rgb) over whole numbers."""
    red, green, blue = np.moveaxis(pixels, -1, 0)
    high = pixels.max(-1)
    spread = high - pixels.min(-1)
    turn = np.where(red == high, green - blue, np.where(green == high, 2 * spread + blue - red, 4 * spread + red - green))
    hue = (255 * turn // np.maximum(6 * spread, 1) % 255 + shifts) % 256
    away = (6 * hue[..., None] + 255 * np.array([5, 3, 1])) % (6 * 255)
    away = np.clip(np.minimum(away, 4 * 255 - away), 0, 255)
    fall = high * (255 * spread // np.maximum(high, 1))
    return np.asarray((2 * 255**2 * high[..., None] - 2 * fall[..., None] * away + 255**2) // (2 * 255**2))


def test_blur_is_pillows() -> None:
    images, sigmas, most = patches(), np.linspace(0.1, 2.0, COUNT).astype(np.float32), 2.0
    expected = by_pillow(images, lambda image, sigma: image.filter(ImageFilter.GaussianBlur(sigma)), sigmas)
    assert difference(jax.jit(blur, static_argnums=2)(planes_of(images).astype(jnp.uint8), sigmas, most), expected).mean() < 0.05


def test_a_patch_is_the_same_from_device_and_host(needs_tensorflow: None) -> None:
    """The whole chain in the drawn order, each operation at its paper's probability, beside TensorFlow's."""
    images, law = patches(7), PAPER
    cells = np.tile(np.array([[0, 0, SIDE, SIDE]], np.int32), (COUNT, 1))
    drawn = draw(law, crop_keys(3, 0, np.zeros(COUNT, np.int32), 0, np.arange(COUNT)), cells)
    host = np.asarray(tf_ops.augment(images, drawn.records(), law))
    host = np.where(drawn.flip[:, None, None, None], host[:, :, ::-1], host)
    planes = jax.jit(lambda p, records: colour.augment(p, colour.by_name(records), law))(to_planes(jnp.asarray(images)), drawn.records())
    device = np.asarray(from_planes(planes))
    assert drawn.jitter.any() and drawn.grayscale.any() and drawn.sigma.any() and drawn.flip.any() and not drawn.flip.all()
    difference = np.abs(device.astype(int) - host.astype(int))
    assert difference.mean() < 0.02, "compilers may round a division of the hue in another way, no more"
    assert np.abs(device.astype(int) - images).mean() > 5, "something was done at all"


def test_solarize_is_pillows() -> None:
    images = patches()
    law = Law(solarize_probability=0.5, solarize_threshold=100)
    chosen = np.arange(COUNT) % 2 == 0
    planes = colour.augment(to_planes(jnp.asarray(images)), {"solarize": jnp.asarray(chosen)}, law)
    inverted = np.stack([np.asarray(ImageOps.solarize(Image.fromarray(image), 100)) for image in images])
    np.testing.assert_array_equal(from_planes(planes), np.where(chosen[:, None, None, None], inverted, images))


def test_records_of_bytes_become_named_parameters() -> None:
    drawn = draw(
        PAPER, crop_keys(3, 0, np.zeros(COUNT, np.int32), 0, np.arange(COUNT)), np.tile(np.array([[0, 0, 9, 9]], np.int32), (COUNT, 1))
    )
    named = jax.jit(colour.by_name)(drawn.records())
    for name, values in drawn.by_name().items():
        np.testing.assert_array_equal(named[name], values)


def test_what_a_law_leaves_out_is_left_out() -> None:
    images = jnp.asarray(patches())
    planes, own = to_planes(images), {"flip": jnp.ones(COUNT)}
    assert colour.augment(planes, {}, Law()) is planes
    np.testing.assert_array_equal(from_planes(colour.augment(planes, own, Law(flip_probability=1.0))), images[:, :, ::-1])


@pytest.mark.parametrize("grid", [1, 2, 3])
def test_cells_of_a_montage_come_in_rows_and_go_back(grid: int) -> None:
    cells = np.random.default_rng(0).integers(0, 255, (2 * grid * grid, 5, 5, 3)).astype(np.uint8)
    montages = np.asarray(join_cells(jnp.asarray(cells), grid))
    for number, cell in enumerate(cells):
        montage, place = divmod(number, grid * grid)
        row, column = divmod(place, grid)
        np.testing.assert_array_equal(montages[montage, 5 * row : 5 * row + 5, 5 * column : 5 * column + 5], cell)
    np.testing.assert_array_equal(split_cells(jnp.asarray(montages), grid), cells)
