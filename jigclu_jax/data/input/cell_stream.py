"""Batches for data.augment=device: images are read, cut and pasted by a few threads or processes, straight into the batch; no TensorFlow.

A patch is written once, into its cell of its montage; colours are left to the device, by the parameters that go along.
"""

import functools
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jigclu_jax.data.augment.parameters import PACKED
from jigclu_jax.data.input.cell_workers import CellWorkers
from jigclu_jax.data.input.cells import CellMaker
from jigclu_jax.data.input.index_stream import IndexStream
from jigclu_jax.data.input.plan import Plan
from jigclu_jax.data.sources.reader import ImageReader

_AHEAD = 2  # batches being made beside the one in use: what bounds the memory, with their images
_TASK = 8  # images a thread takes at once: their random numbers are drawn together

Waiting = tuple[dict[str, np.ndarray], list[tuple[np.ndarray, Future[list[int]]]]]  # a batch, its images and who reads them


class CellStream(Iterator[dict[str, np.ndarray]]):
    """Iterator over batches of this host, at the same steps those of `data/input/pipeline.py` before colour, blur and flip.

    Yields image uint8[b, S, S, 3], augment float32[b, m, m, 12] (`Draws.pack()` of each cell) and the labels of `IndexStream`, in a
    montage batch those of its images only if `labelled`. `workers` processes make them, or if 0, `threads` threads (0: one a core);
    the batches are the same. Raises
    ImageError for an image that cannot be used (data.on_error=stop), UserError where none can, or where a process was lost.
    """

    def __init__(
        self,
        reader: ImageReader,
        augment_config: ConfigDict,
        plan: Plan,
        *,
        threads: int,
        seed: int,
        workers: int = 0,
        labelled: bool = False,
        **options: Any,
    ) -> None:
        source = reader.source
        self._labels = source.labels if labelled or options["view"] == "crop" else None
        self._indices = IndexStream(len(source), self._labels, plan, seed=seed, **options)
        self._reader, self._plan = reader, plan
        self._maker = CellMaker(reader, augment_config, plan, seed)
        self._workers = CellWorkers(self._maker, workers, _AHEAD + 1) if workers else None
        # with processes, the threads only wait for them
        self._pool = ThreadPoolExecutor(workers or threads or max(os.cpu_count() or 1, 2), "cells")
        self._waiting: deque[Waiting] = deque()
        self._begun = self._given = 0
        self._closed = False

    def __next__(self) -> dict[str, np.ndarray]:
        while not self._closed and len(self._waiting) <= _AHEAD and (grids := next(self._indices, None)) is not None:
            self._waiting.append(self._begin(grids))
        if not self._waiting:
            self.close()
            raise StopIteration
        batch, tasks = self._waiting.popleft()
        try:
            for images, task in tasks:
                used = task.result()
                if self._labels is not None:
                    batch["label"][images] = self._labels[used]
        except Exception:
            self.close()
            raise
        if self._workers:  # the slot is written anew while the batch is still in use
            batch["image"], batch["augment"] = (view.copy() for view in self._workers.slot(self._given % (_AHEAD + 1)))
        self._given += 1
        return batch

    def _begin(self, grids: dict[str, np.ndarray]) -> Waiting:
        plan, share = self._plan, self._plan.share
        m, size = plan.grid, plan.grid * plan.side
        batch = {name: grid for name, grid in grids.items() if name not in ("epoch", "example")}
        # where the patches of each image go: row j holds the cells of one image, in location order
        if "cluster" in grids:
            cells = np.lexsort((grids["location"].reshape(-1), grids["cluster"].reshape(-1))).reshape(share, m * m)
            images = np.arange(share)
        else:
            images = np.flatnonzero(grids["mask"])
            cells = images[:, None]
        if self._workers:
            slot = self._begun % (_AHEAD + 1)
            if len(images) < share:
                for view in self._workers.slot(slot):
                    view[:] = 0  # padding
            make = functools.partial(self._workers.make, slot)
        else:
            batch["image"] = np.zeros((share, size, size, 3), np.uint8)
            batch["augment"] = np.zeros((share, m, m, PACKED), np.float32)
            make = functools.partial(self._maker, batch["image"], batch["augment"])
        self._begun += 1
        epoch, example = int(grids["epoch"][0]), grids["example"].reshape(-1)
        parts = [slice(start, start + _TASK) for start in range(0, len(cells), _TASK)]
        tasks = [self._pool.submit(make, epoch, example[cells[part, 0]].tolist(), cells[part]) for part in parts]
        return batch, [(images[part], task) for part, task in zip(parts, tasks, strict=True)]

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
