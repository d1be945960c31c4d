"""Batches without pictures, for data.augment=resident: the indices of the images and the layout of their crops."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64

from jigclu_jax.data.input.sampler import Sampler


class IndexStream(Iterator[dict[str, Any]]):
    """Iterator over the batches without pictures of steps start_step..stop_step of this host, a few kilobytes a step.

    Yields example, epoch int32[b] (the image's index in the data set), draw int32[b] (what its crops are drawn by, see `Sampler.draws`)
    and mask bool[b] (False: padding of an epoch's last batch); with `labels` also label int32[b] (-1: none); and for each view of
    montages, under its name, cluster, position and location int32[g, m, m]: the place in the global batch of a cell's image, which of
    its crops the cell holds, and which region of the image that shows.
    """

    def __init__(self, sampler: Sampler, labels: Int32[np.ndarray, " n"] | None, start_step: int = 0, stop_step: int | None = None) -> None:
        self._sampler, self._labels = sampler, labels
        self._step, self._stop = start_step, stop_step
        self.skipped: dict[int, str] = {}  # images that cannot be used were met when the data set was loaded

    def __next__(self) -> dict[str, Any]:
        if self._stop is not None and self._step >= self._stop:
            raise StopIteration
        sampler = self._sampler
        epoch, examples = sampler.examples(self._step)
        batch = about_images(epoch, examples, self._labels) | {"draw": sampler.draws(self._step).astype(np.int32)}
        for number, view in enumerate(sampler.views):
            batch[view.name] = sampler.layout(number, self._step).grids() if view.montage else {}
        self._step += 1
        return batch

    def close(self) -> None:
        """Nothing is held."""


def about_images(epoch: int, examples: Int64[np.ndarray, " b"], labels: Int32[np.ndarray, " n"] | None) -> dict[str, Any]:
    """example, epoch, mask and, with `labels`, label of a batch's images; an example of -1 is padding."""
    mask = examples >= 0
    batch = {"example": np.maximum(examples, 0).astype(np.int32), "epoch": np.full(len(examples), epoch, np.int32), "mask": mask}
    if labels is not None:
        batch["label"] = np.where(mask, labels[batch["example"]], -1).astype(np.int32)
    return dict(batch)
