import hashlib

import numpy as np
import pytest

from jigclu_jax.data.sources.toy import CLASSES, IMAGE_SIZE, SPLITS, load_embedded
from jigclu_jax.errors import UserError


@pytest.fixture(scope="module", params=SPLITS)
def loaded(request):
    return request.param, *load_embedded(request.param)


def test_shapes_types_and_balance(loaded):
    split, images, labels, classes = loaded
    assert images.shape == (SPLITS[split], IMAGE_SIZE, IMAGE_SIZE, 3) and images.dtype == np.uint8
    assert labels.shape == (SPLITS[split],) and labels.dtype == np.int32
    assert classes == CLASSES and len(set(classes)) == len(classes)
    assert np.array_equal(np.bincount(labels, minlength=len(classes)), np.full(len(classes), SPLITS[split] // len(classes)))


def test_the_same_bits_everywhere(loaded):
    split, images, labels, _ = loaded
    digest = hashlib.sha256(images.tobytes() + labels.astype("<i4").tobytes()).hexdigest()[:16]
    assert digest == {"train": "4082bf305040bf5d", "validation": "35cceaf55caf2203"}[split]


def test_contrast_everywhere(loaded):
    _, images, _, _ = loaded
    assert images.min() == 0 and images.max() == 255
    assert images.astype(np.float32).std(axis=(1, 2, 3)).min() > 15


def test_no_image_is_in_both_splits_or_twice():
    both = np.concatenate([load_embedded(split)[0] for split in SPLITS])
    assert len({image.tobytes() for image in both}) == len(both)


def test_mean_colour_says_nothing_of_the_class(loaded):
    _, images, labels, classes = loaded
    colour = images.mean(axis=(1, 2), dtype=np.float64)
    share = sum(((colour[labels == k].mean(0) - colour.mean(0)) ** 2).sum() for k in range(len(classes))) / len(classes)
    expected = colour.var(0).sum() * len(classes) / len(images)  # of the means of random groups of that size
    assert share < 2 * expected


def test_outlines_are_drawn_as_named():
    """Averaged over a class, a ring is emptier in the middle than a heart, whatever the pattern."""
    images, labels, classes = load_embedded("train")
    grey = images.astype(np.float32).mean(-1)
    middle = slice(IMAGE_SIZE // 2 - 2, IMAGE_SIZE // 2 + 2)
    contrast = np.abs(grey - np.median(grey, axis=(1, 2), keepdims=True))[:, middle, middle].mean((1, 2))
    inner = {name: contrast[labels == k].mean() for k, name in enumerate(classes)}
    for pattern in ("striped", "zigzag", "checked", "spotted"):
        assert inner[f"{pattern} ring"] < 0.6 * inner[f"{pattern} heart"]


def test_unknown_split():
    with pytest.raises(UserError, match=r"'test'.*train, validation"):
        load_embedded("test")
