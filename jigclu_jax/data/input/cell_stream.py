"""Batches for data.augment=device: a few threads or processes read, cut and paste images straight into the batch; no TensorFlow.

A crop is written once, into its cell of its picture; colours are left to the device, by the parameters that go along.
"""

import functools
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from jigclu_jax.data.input.cell_workers import CellWorkers
from jigclu_jax.data.input.cells import CellMaker, Pictures, empty_pictures
from jigclu_jax.data.input.index_stream import about_images
from jigclu_jax.data.input.sampler import Sampler
from jigclu_jax.data.sources.reader import ImageReader
from jigclu_jax.data.view import View

_AHEAD = 2  # batches being made beside the one in use: what bounds the memory, with their images
_TASK = 8  # images a thread takes at once: their random numbers are drawn together

# the places of some images in their batch, and who reads them
Task = tuple[np.ndarray, Future[list[int]]]


class CellStream(Iterator[dict[str, Any]]):
    """Iterator over batches of this host, at the same steps those of `pipeline.py` before colour, blur and flip.

    Yields what `IndexStream` does, and under each view's name also image (its pictures) and augment, the records of all its crops:
    uint8[b, k, bytes], in montages uint8[g, m * m, bytes]; label only if `labelled`. `workers` processes make them, or if 0, `threads`
    threads (0: one a core); the batches are the same.

    Raises (from `next`):
      ImageError: an image that cannot be used (data.on_error=stop).
      UserError: no image can be used, or a process was lost.
    """

    def __init__(
        self,
        reader: ImageReader,
        sampler: Sampler,
        *,
        threads: int,
        workers: int = 0,
        labelled: bool = False,
        start_step: int = 0,
        stop_step: int | None = None,
    ) -> None:
        self._reader, self._sampler = reader, sampler
        self._labels = reader.source.labels if labelled else None
        self._step, self._stop = start_step, stop_step
        self._maker = CellMaker(reader, sampler.views, sampler.seed)
        self._workers = CellWorkers(self._maker, sampler.local, workers, _AHEAD + 1) if workers else None
        # with processes, the threads only wait for them
        self._pool = ThreadPoolExecutor(workers or threads or max(os.cpu_count() or 1, 2), "cells")
        self._waiting: deque[tuple[dict[str, Any], list[Task]]] = deque()
        self._begun = self._given = 0
        self._closed = False

    def __next__(self) -> dict[str, Any]:
        while not self._closed and len(self._waiting) <= _AHEAD and (self._stop is None or self._step < self._stop):
            self._waiting.append(self._begin())
            self._step += 1
        if not self._waiting:
            self.close()
            raise StopIteration
        batch, tasks = self._waiting.popleft()
        try:
            for images, task in tasks:
                used = task.result()
                batch["example"][images] = used
                if self._labels is not None:
                    batch["label"][images] = self._labels[used]
        except Exception:
            self.close()
            raise
        if self._workers:  # the slot is written anew while the batch is still in use
            slot = self._workers.slot(self._given % (_AHEAD + 1))
            for view, (pictures, records) in zip(self._sampler.views, slot, strict=True):
                batch[view.name] |= _named(view, (pictures.copy(), records.copy()))
        self._given += 1
        return batch

    def _begin(self) -> tuple[dict[str, Any], list[Task]]:
        sampler = self._sampler
        epoch, examples = sampler.examples(self._step)
        draws = sampler.draws(self._step)
        batch: dict[str, Any] = about_images(epoch, examples, self._labels)
        cells: list[np.ndarray] = []  # of each view: row i holds the cells of image i, in the order of positions
        for number, view in enumerate(sampler.views):
            order = np.arange(sampler.local * view.crops)
            batch[view.name] = {}
            if view.montage:
                found = sampler.layout(number, self._step)
                batch[view.name] = dict(found.grids())
                order = np.argsort(found.order)
            cells.append(order.reshape(sampler.local, view.crops))
        images = np.flatnonzero(examples >= 0)
        if self._workers:
            slot = self._begun % (_AHEAD + 1)
            if len(images) < sampler.local:
                for array in (array for pair in self._workers.slot(slot) for array in pair):
                    array[:] = 0  # padding
            make: Any = functools.partial(self._workers.make, slot)
        else:
            pictures = [empty_pictures(view, sampler.local) for view in sampler.views]
            for view, pair in zip(sampler.views, pictures, strict=True):
                batch[view.name] |= _named(view, pair)
            make = functools.partial(self._maker, pictures)
        self._begun += 1
        parts = [images[start : start + _TASK] for start in range(0, len(images), _TASK)]
        tasks = [self._pool.submit(make, draws[part], examples[part].tolist(), [own[part] for own in cells]) for part in parts]
        return batch, list(zip(parts, tasks, strict=True))

    @property
    def skipped(self) -> dict[int, str]:
        """Images met so far that could not be used, index -> message (on_error=skip)."""
        return dict(self._reader.skipped)

    def close(self) -> None:
        """Stop reading ahead."""
        self._closed = True
        self._waiting.clear()
        self._pool.shutdown(cancel_futures=True)
        if self._workers:
            self._workers.close()


def _named(view: View, pair: Pictures) -> dict[str, np.ndarray]:
    """Pictures and records as they stand in a batch: both with the pictures' first axis."""
    pictures, records = pair
    return {"image": pictures, "augment": records.reshape(len(pictures), -1, records.shape[-1])}
