"""Views, samplers and streams for tests: the paper's montages and plain crops of small images."""

from typing import Any

import numpy as np
from data.pictures import natural

from jigclu_jax.config import crop_augment_config, montage_augment_config
from jigclu_jax.data.augment.law import Law
from jigclu_jax.data.input.sampler import Sampler
from jigclu_jax.data.view import View
from jigclu_jax.errors import ImageError

PAPER = Law.of(montage_augment_config())
CROP = Law.of(crop_augment_config())
STILL = Law(crop_area=(1.0, 1.0), crop_aspect=(1.0, 1.0))  # changes nothing: the whole region


def montage(side: int, law: Law = PAPER, grid: int = 2, overlap: float = 0.3, group: int = 0) -> View:
    """Montages of `grid` x `grid` patches of `side` pixels."""
    return View("montage", side, law, grid, overlap, montage=grid, group=group)


def crop(side: int, law: Law = CROP) -> View:
    """One random crop an image."""
    return View("crop", side, law)


def sampler(count: int, *views: View, seed: int = 5, batch_size: int = 8, steps_per_epoch: int = 0, **hosts: int) -> Sampler:
    """Of a data set of `count` images; by default only whole batches."""
    return Sampler(count, views, seed=seed, batch_size=batch_size, steps_per_epoch=steps_per_epoch or count // batch_size, **hosts)


def flat(batch: dict[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """A nested batch as "view/image" and the like."""
    found: dict[str, np.ndarray] = {}
    for name, value in batch.items():
        found |= flat(value, f"{prefix}{name}/") if isinstance(value, dict) else {prefix + name: np.asarray(value)}
    return found


class Images:
    """A source over a list of images of any sizes; None stands for one that does not decode."""

    name = "images"
    classes: tuple[str, ...] | None = None
    labels: np.ndarray | None = None

    def __init__(self, images: list[np.ndarray | None], labels: list[int] | None = None) -> None:
        self._images = images
        if labels is not None:
            self.labels = np.array(labels, np.int32)
            self.classes = tuple(str(label) for label in range(max(labels) + 1))

    def __len__(self) -> int:
        return len(self._images)

    def read(self, index: int) -> np.ndarray:
        image = self._images[index]
        if image is None:
            raise ImageError(f"{self.describe(index)}: damaged image")
        return image

    def describe(self, index: int) -> str:
        return f"images[{index}]"


def photographs(count: int) -> Images:
    rng = np.random.default_rng(0)
    return Images([natural(*rng.integers(30, 60, 2), seed) for seed in range(count)], [seed % 3 for seed in range(count)])
