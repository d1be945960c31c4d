"""The augmentation's random numbers: torchvision's laws against a literal transcription, and independence from everything else."""

import math
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from data.batches import CROP, PAPER
from jax.extend.random import threefry_2x32

from jigclu_jax.config import montage_augment_config
from jigclu_jax.data.augment.law import Law
from jigclu_jax.data.augment.parameters import HUE, RECORD, Parameters, draw, resized_crop_boxes
from jigclu_jax.data.augment.streams import STREAMS, crop_keys, threefry, uniforms
from jigclu_jax.errors import UserError

CELLS = np.array([[0, 0, 90, 60], [0, 20, 90, 80], [30, 0, 120, 60], [30, 20, 120, 80]], np.int32)


def scalar_box(width: int, height: int, area: tuple[float, float], aspect: tuple[float, float], u: list[list[float]]) -> list[int]:
    """RandomResizedCrop as torchvision's documentation tells it, one try after the other, fed with the uniforms of each try."""
    for u_area, u_aspect, u_left, u_top in u:
        target = width * height * (area[0] + (area[1] - area[0]) * u_area)
        ratio = math.exp(math.log(aspect[0]) + (math.log(aspect[1]) - math.log(aspect[0])) * u_aspect)
        w, h = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(u_left * (width - w + 1)), int(u_top * (height - h + 1))
            return [left, top, left + w, top + h]
    ratio = width / height
    if ratio < aspect[0]:
        w, h = width, round(width / aspect[0])
    elif ratio > aspect[1]:
        w, h = round(height * aspect[1]), height
    else:
        w, h = width, height
    left, top = (width - w) // 2, (height - h) // 2
    return [left, top, left + w, top + h]


@pytest.mark.parametrize("area", [(0.2, 1.0), (0.08, 1.0), (0.95, 1.0)])
@pytest.mark.parametrize("size", [(400, 300), (75, 75), (3, 200), (200, 3), (1, 1), (5, 4)])
def test_boxes_equal_the_scalar_loop(area: tuple[float, float], size: tuple[int, int]) -> None:
    width, height = size
    u = np.random.default_rng(1).random((300, 10, 4))
    cells = np.tile(np.array([[11, 7, 11 + width, 7 + height]], np.int32), (300, 1))
    boxes = resized_crop_boxes(Law(crop_area=area), u, cells) - np.array([11, 7, 11, 7])
    assert boxes.tolist() == [scalar_box(width, height, area, (3 / 4, 4 / 3), tries.tolist()) for tries in u]


def test_the_fallback_is_reached_and_central() -> None:
    boxes = resized_crop_boxes(
        Law(crop_area=(0.5, 1.0)), np.random.default_rng(0).random((1, 10, 4)), np.array([[0, 0, 400, 10]], np.int32)
    )
    assert boxes.tolist() == [[193, 0, 206, 10]]


def test_law_of_the_area_over_many_examples() -> None:
    """Quantiles of the crops' area against the scalar loop with Python's own random numbers."""
    box = many(PAPER).box
    areas = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]) / (90 * 60)
    rng = random.Random(0)
    reference = []
    for _ in range(6000):
        left, top, right, bottom = scalar_box(90, 60, (0.2, 1.0), (3 / 4, 4 / 3), [[rng.random() for _ in range(4)] for _ in range(10)])
        reference.append((right - left) * (bottom - top) / (90 * 60))
    levels = (0.05, 0.25, 0.5, 0.75, 0.95)
    np.testing.assert_allclose(np.quantile(areas, levels), np.quantile(reference, levels), atol=0.025)


def of(law: Law, seed: int, epoch: int, example: int, cells: np.ndarray = CELLS, view: int = 0) -> Parameters:
    """The parameters of one image's crops."""
    return draw(law, crop_keys(seed, epoch, np.full(len(cells), example), view, np.arange(len(cells))), cells)


def many(law: Law, examples: int = 1500) -> Parameters:
    """Of the crops of many images at once."""
    key = crop_keys(2, 1, np.repeat(np.arange(examples), len(CELLS)), 0, np.tile(np.arange(len(CELLS)), examples))
    return draw(law, key, np.tile(CELLS, (examples, 1)))


def test_the_generator_is_threefry() -> None:
    key, counter = np.array([123, 4_000_000_000], np.uint32), np.array([7, 9], np.uint32)
    expected = threefry_2x32(jnp.asarray(key), jnp.asarray(counter))
    assert np.concatenate(threefry((key[:1], key[1:]), counter[:1], counter[1:])).tolist() == expected.tolist()


def test_host_and_device_draw_the_same_numbers() -> None:
    """Seeds beyond 32 bits, epochs and images of any size; and the parameters that follow, in float64 and float32."""
    arguments = (2**40 + 5, 3, np.array([0, 1, 2**31 - 1]), 1, np.array([0, 7, 15]))
    ours = uniforms(crop_keys(*arguments), {"crop": 5, "hue": 1})
    theirs = jax.jit(lambda: uniforms(crop_keys(*arguments, jnp), {"crop": 5, "hue": 1}, jnp))()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name])
        assert ours[name].min() >= 0 and ours[name].max() < 1
    cells = np.tile(np.array([[0, 0, 26, 26]], np.int32), (500, 1))
    arguments = (0, 1, np.arange(500), 0, np.zeros(500, np.int32))
    host = draw(PAPER, crop_keys(*arguments), cells)
    device = jax.jit(lambda: draw(PAPER, crop_keys(*arguments, jnp), jnp.asarray(cells), jnp).__dict__)()
    # a product that lies on a rounding edge may fall to either side in another precision
    assert (np.asarray(device["box"]) == host.box).all(axis=1).mean() > 0.98
    for name, values in host.by_name().items():
        np.testing.assert_allclose(np.asarray(device[name], np.float64), values, atol=2**-13 if name != "hue" else 255)
    np.testing.assert_array_equal(device["order"], host.order)
    assert (np.asarray(device["hue"]) == host.hue).mean() > 0.98


def test_every_operation_has_a_stream_of_its_own() -> None:
    """So that one more operation, or more numbers for it, changes no other picture; and no stream repeats another's numbers."""
    key = crop_keys(0, 0, np.arange(2000), 0, np.zeros(2000, np.int32))
    alone = uniforms(key, {"blur": 1})
    beside = uniforms(key, {"solarize": 3, "blur": 1, "crop": 40})
    np.testing.assert_array_equal(alone["blur"], beside["blur"])
    every = np.concatenate(list(uniforms(key, {name: 2 for name in STREAMS}).values()), axis=1)
    assert np.abs(np.corrcoef(every.T) - np.eye(every.shape[1])).max() < 0.1
    assert len(set(STREAMS.values())) == len(STREAMS)
    assert list(STREAMS.items())[:3] == [("crop", 0), ("flip", 1), ("jitter", 2)], "numbers of streams never change"


def test_laws_of_the_flags_factors_and_orders() -> None:
    drawn = many(Law(**(vars(PAPER) | {"solarize_probability": 0.3})))
    blurred = drawn.sigma > 0
    for flags, probability in ((drawn.jitter, 0.8), (drawn.grayscale, 0.2), (blurred, 0.5), (drawn.flip, 0.5), (drawn.solarize, 0.3)):
        assert abs(flags.mean() - probability) < 0.025
    for factors in (drawn.brightness, drawn.contrast, drawn.saturation):
        assert 0.6 - 1e-4 <= factors.min() < 0.61 and 1.39 < factors.max() <= 1.4 + 1e-4
        assert abs(factors.mean() - 1) < 0.01
        assert (factors * 2**14 == np.rint(factors * 2**14)).all()
    signed = (drawn.hue + 128) % 256 - 128
    assert signed.min() == -25 and signed.max() == 25 and abs(signed.mean()) < 1
    sigma = drawn.sigma[blurred]
    assert 0.1 <= sigma.min() < 0.11 and 1.99 < sigma.max() <= 2.0 and abs(sigma.mean() - 1.05) < 0.03
    orders, counts = np.unique(drawn.order, axis=0, return_counts=True)
    assert len(orders) == 24 and (np.sort(orders, axis=1) == np.arange(4)).all()
    assert np.sum((counts - 250) ** 2 / 250) < 60  # chi-squared with 23 degrees of freedom: p < 0.0001


def test_parameters_are_independent_of_each_other() -> None:
    drawn = many(PAPER)
    columns = [drawn.jitter, drawn.grayscale, drawn.sigma > 0, drawn.flip, drawn.brightness, drawn.contrast, drawn.saturation]
    correlation = np.corrcoef(np.stack([*columns, drawn.box[:, 2] - drawn.box[:, 0]]).astype(np.float64))
    assert np.abs(correlation - np.eye(len(correlation))).max() < 0.05


def assert_equal(one: Parameters, other: Parameters) -> None:
    for name, values in {"box": one.box, **one.by_name()}.items():
        np.testing.assert_array_equal(values, getattr(other, name))


def test_a_position_draws_the_same_whatever_stands_beside_it() -> None:
    whole, alone = of(PAPER, 3, 4, 5), of(PAPER, 3, 4, 5, CELLS[:1])
    assert_equal(Parameters(**{name: values[:1] for name, values in vars(whole).items()}), alone)


@pytest.mark.parametrize("other", [(1, 0, 0), (2**33, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_seed_epoch_and_example_each_matter(other: tuple[int, int, int]) -> None:
    first, second = of(PAPER, 0, 0, 0), of(PAPER, *other)
    assert (first.brightness != second.brightness).any() and (first.box != second.box).any()
    assert_equal(first, of(PAPER, 0, 0, 0))


def test_views_draw_their_own_numbers() -> None:
    assert (of(PAPER, 0, 0, 0).box != of(PAPER, 0, 0, 0, view=1).box).any()


def test_probability_zero_and_one() -> None:
    none = many(CROP, 100)
    assert not none.jitter.any() and not none.grayscale.any() and not none.sigma.any() and not none.solarize.any()
    certain = {f"{name}_probability": 1.0 for name in ("jitter", "blur", "flip", "grayscale", "solarize")}
    everything = many(Law(**(vars(PAPER) | certain)), 100)
    assert everything.jitter.all() and everything.sigma.all() and everything.flip.all() and everything.grayscale.all()
    assert everything.solarize.all()


def test_records_keep_every_parameter() -> None:
    drawn = many(PAPER, 50)
    records = drawn.records()
    assert records.dtype == np.uint8 and records.shape == (200, RECORD.itemsize)
    named = records.reshape(-1).view(RECORD)
    for name, values in drawn.by_name().items():
        np.testing.assert_array_equal(named[name], values)
    assert (drawn.order == HUE).any()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jitter_probability", 1.5),
        ("flip_probability", -0.1),
        ("solarize_probability", float("nan")),
        ("solarize_threshold", 300),
        ("brightness", -1.0),
        ("contrast", float("nan")),
        ("saturation", float("inf")),
        ("hue", 0.6),
        ("crop_area", (0.0, 1.0)),
        ("crop_area", (0.5, 1.2)),
        ("crop_area", (0.5, 0.2)),
        ("crop_aspect", (0.0, 1.0)),
        ("crop_aspect", (0.5, float("inf"))),
        ("blur_sigma", (-1.0, 2.0)),
        ("blur_sigma", (0.1, float("nan"))),
    ],
)
def test_what_is_no_augmentation_is_refused_by_name(name: str, value: object) -> None:
    config = montage_augment_config()
    config[name] = value
    with pytest.raises(UserError, match=f"augment.{name}"):
        Law.of(config)
