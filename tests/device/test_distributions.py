"""Each transform's output over thousands of draws, host beside device beside resident: moments and distance of distributions."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from data.batches import PAPER, montage, sampler
from data.pictures import natural

from jigclu_jax.config import pipeline_config
from jigclu_jax.data.augment.law import Law
from jigclu_jax.data.input.cell_stream import CellStream
from jigclu_jax.data.input.index_stream import IndexStream
from jigclu_jax.data.input.pipeline import train_batches
from jigclu_jax.data.sources.arrays import ArraySource
from jigclu_jax.data.sources.reader import ImageReader
from jigclu_jax.device import resident
from jigclu_jax.device.feed import Feed, device_feed
from jigclu_jax.device.mesh import create_mesh, to_device

IMAGES, BATCH, EPOCHS, SIDE = 128, 32, 5, 16
PATCHES = 4 * IMAGES * EPOCHS
# two samples of one law differ by more than this once in a hundred thousand comparisons
MOST = math.sqrt(math.log(2 / 1e-5) / 2) * math.sqrt(2 / PATCHES)
OFF = {name: 0.0 for name in ("jitter_probability", "grayscale_probability", "blur_probability", "flip_probability")}
STRENGTHS = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
WHOLE = {"crop_area": (1.0, 1.0), "crop_aspect": (1.0, 1.0)}  # the cell as it is


def gray(patches: np.ndarray) -> np.ndarray:
    return patches @ np.array([0.299, 0.587, 0.114])


def level(patches: np.ndarray) -> np.ndarray:
    return gray(patches).mean((1, 2))


def spread(patches: np.ndarray) -> np.ndarray:
    return gray(patches).std((1, 2))


def chroma(patches: np.ndarray) -> np.ndarray:
    return (patches.max(-1) - patches.min(-1)).mean((1, 2))


def warmth(patches: np.ndarray) -> np.ndarray:
    return (patches[..., 0] - patches[..., 2]).mean((1, 2))


def roughness(patches: np.ndarray) -> np.ndarray:
    return np.abs(np.diff(gray(patches), axis=2)).mean((1, 2))


def leaning(patches: np.ndarray) -> np.ndarray:
    """Right half less left half."""
    planes = gray(patches)
    return planes[:, :, SIDE // 2 :].mean((1, 2)) - planes[:, :, : SIDE // 2].mean((1, 2))


MEASURES: tuple[Callable[[np.ndarray], np.ndarray], ...] = (level, spread, chroma, warmth, roughness, leaning)
# what is on alone, and the measure that must show it
TRANSFORMS = {
    "crop": (OFF, roughness),
    "brightness": (OFF | STRENGTHS | WHOLE | {"jitter_probability": 0.8, "brightness": 0.4}, level),
    "contrast": (OFF | STRENGTHS | WHOLE | {"jitter_probability": 0.8, "contrast": 0.4}, spread),
    "saturation": (OFF | STRENGTHS | WHOLE | {"jitter_probability": 0.8, "saturation": 0.4}, chroma),
    "hue": (OFF | STRENGTHS | WHOLE | {"jitter_probability": 0.8, "hue": 0.1}, warmth),
    "grayscale": (OFF | WHOLE | {"grayscale_probability": 0.2}, chroma),
    "blur": (OFF | WHOLE | {"blur_probability": 0.5}, roughness),
    "flip": (OFF | WHOLE | {"flip_probability": 0.5}, leaning),
}


def distance(ours: np.ndarray, theirs: np.ndarray, slack: float = 0.3) -> float:
    """Kolmogorov-Smirnov's, but that a value may lie `slack` of 255 beside its like: a grayscale's few values differ in the last bit."""
    edges = np.concatenate([ours, theirs])

    def share(values: np.ndarray, below: np.ndarray) -> np.ndarray:
        return np.searchsorted(np.sort(values), below, side="right") / len(values)

    ahead = share(ours, edges - slack) - share(theirs, edges)
    behind = share(theirs, edges - slack) - share(ours, edges)
    return float(max(ahead.max(), behind.max()))


def law(augment: dict[str, Any]) -> Law:
    return dataclasses.replace(PAPER, **augment)


def source() -> ArraySource:
    """One photo-like picture many times: what differs between patches of one position are the draws alone."""
    return ArraySource(np.repeat(natural(40, 40, 3)[None], IMAGES, axis=0), None, None)


def cells(batch: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Patches of a batch of montages, and where in their image each was cut."""
    images = batch["montage"]["image"]
    patches = images.reshape(-1, 2, SIDE, 2, SIDE, 3).transpose(0, 1, 3, 2, 4, 5).reshape(-1, SIDE, SIDE, 3)
    return patches.astype(np.float64), batch["montage"]["position"].reshape(-1)


def patches_of(place: str, own: Law) -> tuple[np.ndarray, np.ndarray]:
    images, steps, views = source(), EPOCHS * IMAGES // BATCH, (montage(SIDE, own),)
    reader, mesh = ImageReader(images, 1, "stop", "data"), create_mesh(jax.devices()[:1])
    # a seed of its own for each place: the comparison is of laws, not of the same numbers
    which = sampler(IMAGES, *views, batch_size=BATCH, seed=("host", "device", "resident").index(place))
    if place == "host":
        made = [cells(batch) for batch in train_batches(reader, pipeline_config(), which, stop_step=steps)]
    else:
        if place == "device":
            feed: Feed = device_feed(views)
            stream: Any = CellStream(reader, which, threads=2, stop_step=steps)
        else:
            stored, facts = resident.load(images, 40, reader, mesh)
            feed = resident.resident_feed(stored, facts, views, side=40, seed=which.seed, mesh=mesh, dispatch=1)
            stream = IndexStream(which, None, 0, steps)
        make = jax.jit(feed.prepare)
        made = [cells(jax.device_get(make(feed.arrays, to_device(batch, mesh)))) for batch in stream]
    patches, positions = (np.concatenate(part) for part in zip(*made, strict=True))
    assert len(patches) == PATCHES
    return patches, positions


def assert_one_law(own: Law, shown_by: Callable[[np.ndarray], np.ndarray]) -> None:
    host, locations = patches_of("host", own)
    assert shown_by(host)[locations == 0].std() > 0.5, "the transform does nothing to this measure: the comparison is empty"
    for place in ("device", "resident"):
        patches, theirs = patches_of(place, own)
        assert np.array_equal(np.bincount(theirs), np.bincount(locations))
        for measure in MEASURES:
            ours, found = measure(host), measure(patches)
            scale = max(float(ours.std()), 1.0)
            assert abs(ours.mean() - found.mean()) < 0.12 * scale, (place, measure.__name__)
            assert abs(ours.std() - found.std()) < 0.12 * scale, (place, measure.__name__)
            assert distance(ours, found) < MOST, (place, measure.__name__)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_alone_has_one_law_in_all_three_places(name: str) -> None:
    augment, shown_by = TRANSFORMS[name]
    assert_one_law(law(augment), shown_by)


def test_the_papers_recipe_has_one_law_in_all_three_places() -> None:
    assert_one_law(law({}), level)


def test_the_comparison_notices_another_law() -> None:
    """Brightness of 0.4 against 0.5 is told apart by the number of patches used here."""
    augment, shown_by = TRANSFORMS["brightness"]
    one, _ = patches_of("host", law(augment))
    other, _ = patches_of("host", law(augment | {"brightness": 0.5}))
    assert distance(shown_by(one), shown_by(other)) > MOST
