"""The augmentation's random numbers: torchvision's laws against a literal transcription, and independence from everything else."""

import math
import random

import numpy as np
import pytest
from ml_collections import ConfigDict

from jigclu_jax.config import crop_augment_config, montage_augment_config
from jigclu_jax.data.augment.parameters import HUE, Draws, check_augment, draw, resized_crop_boxes
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
    boxes = resized_crop_boxes(area, (3 / 4, 4 / 3), u, cells) - np.array([11, 7, 11, 7])
    assert boxes.tolist() == [scalar_box(width, height, area, (3 / 4, 4 / 3), tries.tolist()) for tries in u]


def test_the_fallback_is_reached_and_central() -> None:
    boxes = resized_crop_boxes(
        (0.5, 1.0), (3 / 4, 4 / 3), np.random.default_rng(0).random((1, 10, 4)), np.array([[0, 0, 400, 10]], np.int32)
    )
    assert boxes.tolist() == [[193, 0, 206, 10]]


def test_law_of_the_area_over_many_examples() -> None:
    """Quantiles of the crops' area against the scalar loop with Python's own random numbers."""
    config = montage_augment_config()
    areas = []
    for example in range(1500):
        box = draw(config, 0, 0, example, CELLS).box
        areas.append((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]) / (90 * 60))
    rng = random.Random(0)
    reference = []
    for _ in range(6000):
        left, top, right, bottom = scalar_box(90, 60, (0.2, 1.0), (3 / 4, 4 / 3), [[rng.random() for _ in range(4)] for _ in range(10)])
        reference.append((right - left) * (bottom - top) / (90 * 60))
    levels = (0.05, 0.25, 0.5, 0.75, 0.95)
    np.testing.assert_allclose(np.quantile(np.concatenate(areas), levels), np.quantile(reference, levels), atol=0.025)


def many(config: ConfigDict, examples: int = 1500) -> Draws:
    draws = [draw(config, 2, 1, example, CELLS) for example in range(examples)]
    return Draws(*(np.concatenate([getattr(one, name) for one in draws]) for name in Draws.__dataclass_fields__))


def test_laws_of_the_flags_factors_and_orders() -> None:
    draws = many(montage_augment_config())
    for flags, probability in ((draws.jitter, 0.8), (draws.grayscale, 0.2), (draws.blur, 0.5), (draws.flip, 0.5)):
        assert abs(flags.mean() - probability) < 0.025
    for column in range(3):
        factors = draws.factors[:, column]
        assert 0.6 - 1e-4 <= factors.min() < 0.61 and 1.39 < factors.max() <= 1.4 + 1e-4
        assert abs(factors.mean() - 1) < 0.01
        assert (factors * 2**14 == np.rint(factors * 2**14)).all()
    signed = (draws.hue + 128) % 256 - 128
    assert signed.min() == -25 and signed.max() == 25 and abs(signed.mean()) < 1
    assert 0.1 <= draws.sigma.min() < 0.11 and 1.99 < draws.sigma.max() <= 2.0
    orders, counts = np.unique(draws.order, axis=0, return_counts=True)
    assert len(orders) == 24 and (np.sort(orders, axis=1) == np.arange(4)).all()
    assert np.sum((counts - 250) ** 2 / 250) < 60  # chi-squared with 23 degrees of freedom: p < 0.0001


def test_draws_are_independent_of_each_other() -> None:
    draws = many(montage_augment_config())
    columns = np.stack(
        [draws.jitter, draws.grayscale, draws.blur, draws.flip, draws.sigma, *draws.factors.T, draws.box[:, 2] - draws.box[:, 0]]
    )
    correlation = np.corrcoef(columns.astype(np.float64))
    assert np.abs(correlation - np.eye(len(columns))).max() < 0.05


def test_a_position_draws_the_same_whatever_stands_beside_it() -> None:
    config = montage_augment_config()
    whole = draw(config, 3, 4, 5, CELLS)
    alone = draw(config, 3, 4, 5, CELLS[:1])
    for name in Draws.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(whole, name)[:1], getattr(alone, name))


@pytest.mark.parametrize("other", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_seed_epoch_and_example_each_matter(other: tuple[int, int, int]) -> None:
    config = montage_augment_config()
    first, second = draw(config, 0, 0, 0, CELLS), draw(config, *other, CELLS)
    assert (first.sigma != second.sigma).all() and (first.factors != second.factors).any()
    np.testing.assert_array_equal(first.sigma, draw(config, 0, 0, 0, CELLS).sigma)


def test_probability_zero_and_one() -> None:
    none = many(crop_augment_config(), 100)
    assert not none.jitter.any() and not none.grayscale.any() and not none.blur.any()
    config = montage_augment_config()
    config.jitter_probability = config.blur_probability = config.flip_probability = config.grayscale_probability = 1.0
    everything = many(config, 100)
    assert everything.jitter.all() and everything.blur.all() and everything.flip.all() and everything.grayscale.all()


def test_packing_keeps_every_parameter() -> None:
    draws = many(montage_augment_config(), 50)
    packed = draws.pack()
    assert packed.dtype == np.float32
    np.testing.assert_array_equal(packed[:, 0], draws.jitter)
    np.testing.assert_array_equal(packed[:, 1:5], draws.order)
    np.testing.assert_array_equal(packed[:, 5:8], draws.factors)
    np.testing.assert_array_equal(packed[:, 8], draws.hue)
    np.testing.assert_array_equal(packed[:, 9], draws.grayscale)
    np.testing.assert_array_equal(packed[:, 10], np.where(draws.blur, draws.sigma, 0))
    assert (draws.order == HUE).any()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jitter_probability", 1.5),
        ("flip_probability", -0.1),
        ("brightness", -1.0),
        ("hue", 0.6),
        ("crop_area", (0.0, 1.0)),
        ("crop_area", (0.5, 1.2)),
        ("crop_area", (0.5, 0.2)),
        ("crop_aspect", (0.0, 1.0)),
        ("blur_sigma", (-1.0, 2.0)),
    ],
)
def test_what_is_no_augmentation_is_refused_by_name(name: str, value: object) -> None:
    config = montage_augment_config()
    config[name] = value
    with pytest.raises(UserError, match=f"augment.{name}"):
        check_augment(config)
    check_augment(montage_augment_config())
    check_augment(crop_augment_config())
