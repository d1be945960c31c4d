"""Each colour operation and the blur against Pillow itself with the same parameters, eagerly and inside Dataset.map."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from data.batches import CROP, PAPER
from data.pictures import natural
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from jigclu_jax.data.augment import crops
from jigclu_jax.data.augment import host_pictures as tf_ops
from jigclu_jax.data.augment.crops import crop_patches, resize_and_centre_crop
from jigclu_jax.data.augment.law import Law
from jigclu_jax.data.augment.parameters import BRIGHTNESS, CONTRAST, HUE, SATURATION, Parameters, draw
from jigclu_jax.data.augment.streams import crop_keys
from jigclu_jax.data.lazy_tf import tensorflow

COUNT = 12


def patches(side: int) -> np.ndarray:
    return np.stack([natural(side, side, seed) for seed in range(COUNT)])


def pillow_hue(image: Image.Image, shift: int) -> Image.Image:
    """torchvision's adjust_hue on a Pillow image, the shift in 8-bit steps of a turn."""
    hue, saturation, value = image.convert("HSV").split()
    turned = Image.fromarray(((np.asarray(hue).astype(np.int32) + shift) % 256).astype(np.uint8))
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


def each(images: np.ndarray, function: Callable[[Image.Image, int], Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(function(Image.fromarray(image), i)) for i, image in enumerate(images)])


def error(got: np.ndarray, expected: np.ndarray) -> float:
    """The largest of the images' mean absolute errors, of 255."""
    return float(np.abs(got.astype(int) - expected.astype(int)).mean(axis=(1, 2, 3)).max())


def on_planes(images: np.ndarray, function: Callable[[object], object]) -> np.ndarray:
    return np.asarray(tf_ops.from_planes(function(tf_ops.to_planes(images))))


@pytest.mark.parametrize("side", [7, 32, 56])
def test_brightness_contrast_saturation_and_grayscale_are_pillow_bit_for_bit(side: int) -> None:
    images = patches(side)
    factors = (np.rint(np.random.default_rng(0).uniform(0.0, 2.0, COUNT) * 2**14) / 2**14).astype(np.float32)
    factors[:3] = 0, 1, 2
    for enhance, other in (
        (ImageEnhance.Brightness, lambda planes: 0.0),
        (ImageEnhance.Contrast, lambda planes: tf_ops.rounded_mean(tf_ops.luma(planes))),
        (ImageEnhance.Color, tf_ops.luma),
    ):
        expected = each(images, lambda image, i, enhance=enhance: enhance(image).enhance(float(factors[i])))
        got = on_planes(images, lambda planes, other=other: tf_ops.blend(planes, other(planes), factors))
        np.testing.assert_array_equal(got, expected)
    expected = each(images, lambda image, _: image.convert("L").convert("RGB"))
    np.testing.assert_array_equal(on_planes(images, tf_ops.grayscale), expected)


def test_luma_of_the_brightest_pixels_does_not_overflow_float32() -> None:
    image = np.full((1, 4, 4, 3), 255, np.uint8)
    np.testing.assert_array_equal(on_planes(image, tf_ops.grayscale), image)


def test_hue_is_pillows_8_bit_hue() -> None:
    images = patches(64)
    shifts = np.array([0, 1, 5, 13, 25, 231, 243, 250, 255, 128, 64, 190])
    expected = each(images, lambda image, i: pillow_hue(image, int(shifts[i])))
    got = on_planes(images, lambda planes: tf_ops.shift_hue(planes, shifts.astype(np.float32)))
    assert error(got, expected) < 0.05


def test_hue_of_pure_and_gray_colours_is_exact() -> None:
    levels = np.array([0, 85, 170, 255], np.uint8)
    image = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(1, 8, 8, 3)
    for shift in (0, 10, 245):
        got = on_planes(image, lambda planes, shift=shift: tf_ops.shift_hue(planes, np.array([shift], np.float32)))
        np.testing.assert_array_equal(got, each(image, lambda picture, _, shift=shift: pillow_hue(picture, shift)))


def blurred(planes: Any, sigma: np.ndarray, most: float) -> Any:
    tf = tensorflow()
    return tf.stack([tf_ops.blur(patch, own, most) for patch, own in zip(tf.unstack(planes), sigma, strict=True)])


@pytest.mark.parametrize("most", [0.3, 1.0, 2.0, 6.0])
@pytest.mark.parametrize("side", [3, 32, 48, 61, 112])
def test_blur_is_pillows_gaussian_blur(side: int, most: float) -> None:
    images = patches(side)
    sigma = np.random.default_rng(1).uniform(most / 20, most, COUNT).astype(np.float32)
    expected = each(images, lambda image, i: image.filter(ImageFilter.GaussianBlur(float(sigma[i]))))
    # a single value that is off by one in the 27 of a 3 x 3 patch is 0.04
    assert error(on_planes(images, lambda planes: blurred(planes, sigma, most)), expected) < (0.15 if side == 3 else 0.05)


@pytest.mark.parametrize("sigma", [0.1, 0.5, 0.9999, 1.0, 1.0001, 1.5, 2.0, 3.0])
def test_blur_where_sums_are_often_halves_stays_near_pillow_too(sigma: float) -> None:
    images = patches(61)
    expected = each(images, lambda image, _: image.filter(ImageFilter.GaussianBlur(sigma)))
    assert error(on_planes(images, lambda planes: blurred(planes, np.full(COUNT, sigma, np.float32), 3.0)), expected) < 0.3


def test_blur_keeps_an_even_area_and_spreads_a_point_as_wide_as_sigma() -> None:
    even = np.full((1, 31, 31, 3), 77, np.uint8)
    np.testing.assert_array_equal(on_planes(even, lambda planes: blurred(planes, np.array([1.7], np.float32), 2.0)), even)
    centre, *beside = (float(weight) for weight in tf_ops.box_weights(np.float32(1.5), 2))
    one_pass = np.array([*beside[::-1], centre, *beside])
    kernel = np.convolve(np.convolve(one_pass, one_pass), one_pass)
    assert kernel.sum() == pytest.approx(1.0, abs=1e-9)
    assert math.sqrt((kernel * (np.arange(len(kernel)) - len(kernel) // 2) ** 2).sum()) == pytest.approx(1.5, abs=2e-3)


def pillow_augment(images: np.ndarray, drawn: Parameters) -> np.ndarray:
    def one(image: Image.Image, i: int) -> Image.Image:
        if drawn.jitter[i]:
            for operation in drawn.order[i]:
                if operation == HUE:
                    image = pillow_hue(image, int(drawn.hue[i]))
                else:
                    enhance, factors = {
                        BRIGHTNESS: (ImageEnhance.Brightness, drawn.brightness),
                        CONTRAST: (ImageEnhance.Contrast, drawn.contrast),
                        SATURATION: (ImageEnhance.Color, drawn.saturation),
                    }[operation]
                    image = enhance(image).enhance(float(factors[i]))
        if drawn.grayscale[i]:
            image = image.convert("L").convert("RGB")
        if drawn.sigma[i] > 0:
            image = image.filter(ImageFilter.GaussianBlur(float(drawn.sigma[i])))
        return ImageOps.solarize(image, ALL.solarize_threshold) if drawn.solarize[i] else image

    return each(images, one)


ALL = dataclasses.replace(PAPER, solarize_probability=0.3)


def drawn_for(count: int, side: int, law: Law = ALL) -> Parameters:
    key = crop_keys(0, 0, np.zeros(count, np.int32), 0, np.arange(count))
    return draw(law, key, np.tile(np.array([[0, 0, side, side]], np.int32), (count, 1)))


@pytest.mark.parametrize("side", [16, 56])
def test_whole_augmentation_in_random_order_is_pillows(side: int) -> None:
    images = np.concatenate([patches(side)] * 3)
    drawn = drawn_for(len(images), side)
    assert drawn.jitter.any() and drawn.grayscale.any() and drawn.sigma.any() and drawn.solarize.any()
    got = np.asarray(tf_ops.augment(images, drawn.records(), ALL)).astype(int)
    expected = pillow_augment(images, drawn)
    plain = ~drawn.solarize
    assert error(got[plain], expected[plain]) < 0.1
    # a pixel that a rounding puts on the other side of the threshold is inverted or not: these are few
    assert np.mean(np.abs(got - expected).max(axis=-1) > 3) < 0.01


def test_solarize_is_pillows() -> None:
    images = patches(16)
    for threshold in (0, 1, 128, 255, 256):
        expected = each(images, lambda image, _, threshold=threshold: ImageOps.solarize(image, threshold))
        np.testing.assert_array_equal(on_planes(images, lambda planes, t=threshold: tf_ops.solarize(planes, t)), expected)


def test_eager_equals_dataset_map() -> None:
    tf = tensorflow()
    images, drawn = patches(16), drawn_for(COUNT, 16)
    eager = np.asarray(tf_ops.augment(images, drawn.records(), ALL))
    dataset = tf.data.Dataset.from_tensors((images, drawn.records())).map(
        tf.autograph.experimental.do_not_convert(lambda patches, rows: tf_ops.augment(patches, rows, ALL))
    )
    np.testing.assert_array_equal(next(iter(dataset.as_numpy_iterator())), eager)
    planes = tf_ops.to_planes(images)
    sigma, factors, shifts = drawn.sigma + 0.1, drawn.brightness, drawn.hue.astype(np.float32)
    for function in (
        lambda planes: tf_ops.blend(planes, tf_ops.rounded_mean(tf_ops.luma(planes)), factors),
        lambda planes: tf_ops.shift_hue(planes, shifts),
        lambda planes: blurred(planes, sigma, 2.1),
        tf_ops.grayscale,
    ):
        mapped = tf.data.Dataset.from_tensors(planes).map(tf.autograph.experimental.do_not_convert(function))
        np.testing.assert_array_equal(next(iter(mapped.as_numpy_iterator())), np.asarray(function(planes)))


def test_without_xla_the_result_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    images, records = patches(16), drawn_for(COUNT, 16, PAPER).records()
    compiled = np.asarray(tf_ops.augment(images, records, PAPER))
    monkeypatch.setattr(tf_ops, "xla_works", lambda: False)
    plain = np.asarray(tf_ops._compiled.__wrapped__(PAPER, 16)(images, records))
    # hue alone is not exact in float32, and fused multiply-add may move a value by one step of 8-bit hue
    assert error(plain, compiled) < 0.05


def test_operations_at_zero_leave_the_pixels() -> None:
    images = patches(16)
    drawn = drawn_for(COUNT, 16)
    assert tf_ops.augment(images, drawn.records(), CROP) is images
    law = dataclasses.replace(PAPER, hue=0.0, jitter_probability=0.0, blur_probability=0.0)
    only_gray = np.asarray(tf_ops.augment(images, drawn.records(), law))
    expected = np.where(drawn.grayscale[:, None, None, None], each(images, lambda image, _: image.convert("L").convert("RGB")), images)
    np.testing.assert_array_equal(only_gray, expected)


def test_one_pixel_patches_pass() -> None:
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 1, 1, 3), dtype=np.uint8)
    drawn = drawn_for(COUNT, 1, PAPER)
    got = np.asarray(tf_ops.augment(images, drawn.records(), PAPER))
    assert error(got, pillow_augment(images, drawn)) < 0.3


@pytest.mark.parametrize("by_pillow", [True, False])
def test_crops_are_pillows_crop_resize_and_flip(by_pillow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit by Pillow itself; within 1 of 255, and 0.3 on average, by what is faster."""
    if by_pillow:
        monkeypatch.setattr(crops, "resizer", lambda: crops.resize_by_pillow)
    image = natural(97, 131, 0)
    cells = np.array([[0, 0, 105, 77], [26, 20, 131, 97], [0, 0, 1, 1]], np.int32)
    drawn = draw(PAPER, crop_keys(1, 0, np.zeros(3, np.int32), 0, np.arange(3)), cells)
    got = crop_patches(image, drawn, 24).astype(int)
    for i, box in enumerate(drawn.box):
        expected = Image.fromarray(image).crop(tuple(box)).resize((24, 24), Image.Resampling.BILINEAR)
        if drawn.flip[i]:
            expected = expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        difference = np.abs(got[i] - np.asarray(expected))
        assert difference.max() <= (0 if by_pillow else 1)
        assert difference.mean() <= 0.3


@pytest.mark.parametrize(("height", "width"), [(60, 80), (81, 60), (60, 60), (61, 300), (10, 12), (1, 1)])
def test_centre_crop_is_where_torchvision_puts_it(height: int, width: int) -> None:
    image = natural(height, width, 0)
    got = resize_and_centre_crop(image, 40, 32)
    short, long = min(height, width), max(height, width)
    size = (40, int(40 * long / short)) if width <= height else (int(40 * long / short), 40)
    resized = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    top, left = round((size[1] - 32) / 2), round((size[0] - 32) / 2)
    np.testing.assert_array_equal(got, resized[top : top + 32, left : left + 32])


def test_centre_crop_larger_than_the_image_is_padded_with_black() -> None:
    got = resize_and_centre_crop(np.full((5, 5, 3), 9, np.uint8), 5, 8)
    expected = np.zeros((8, 8, 3), np.uint8)
    expected[1:6, 1:6] = 9
    np.testing.assert_array_equal(got, expected)
