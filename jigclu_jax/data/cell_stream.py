"""Batches for data.augment=device: images are read, cut and pasted by a few threads, straight into the batch; no TensorFlow needed.

A patch is written once, into its cell of its montage; colours are left to the device, by the parameters that go along.
"""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jigclu_jax.data.crops import resizer
from jigclu_jax.data.draws import PACKED, draw_many
from jigclu_jax.data.geometry import patch_boxes
from jigclu_jax.data.index_stream import IndexStream
from jigclu_jax.data.plan import Plan
from jigclu_jax.data.reader import ImageReader

_AHEAD = 2  # batches being made beside the one in use: what bounds the memory, with their images
_TASK = 8  # images a thread takes at once: their random numbers are drawn together


class CellStream(Iterator[dict[str, np.ndarray]]):
    """Iterator over batches of this host, at the same steps those of `data/pipeline.py` before colour, blur and flip.

    Yields image uint8[b, S, S, 3], augment float32[b, m, m, 12] (`Draws.pack()` of each cell) and the labels of `IndexStream`, in a
    montage batch those of its images only if `labelled`. Raises
    ImageError for an image that cannot be used (data.on_error=stop), UserError where none can.
    """

    def __init__(
        self,
        reader: ImageReader,
        augment_config: ConfigDict,
        plan: Plan,
        *,
        threads: int,
        seed: int,
        labelled: bool = False,
        **options: Any,
    ) -> None:
        source = reader.source
        self._labels = source.labels if labelled or options["view"] == "crop" else None
        self._indices = IndexStream(len(source), self._labels, plan, seed=seed, **options)
        self._reader, self._augment, self._plan, self._seed = reader, augment_config, plan, seed
        self._pool = ThreadPoolExecutor(threads or max(os.cpu_count() or 1, 2), "cells")
        self._waiting: deque[tuple[dict[str, np.ndarray], list[Future[None]]]] = deque()
        self._closed = False

    def __next__(self) -> dict[str, np.ndarray]:
        while not self._closed and len(self._waiting) <= _AHEAD and (grids := next(self._indices, None)) is not None:
            self._waiting.append(self._begin(grids))
        if not self._waiting:
            self.close()
            raise StopIteration
        batch, tasks = self._waiting.popleft()
        try:
            for task in tasks:
                task.result()
        except Exception:
            self.close()
            raise
        return batch

    def _begin(self, grids: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[Future[None]]]:
        plan, share = self._plan, self._plan.share
        m, size = plan.grid, plan.grid * plan.side
        batch = {name: grid for name, grid in grids.items() if name not in ("epoch", "example")}
        batch["image"] = np.zeros((share, size, size, 3), np.uint8)
        batch["augment"] = np.zeros((share, m, m, PACKED), np.float32)
        # where the patches of each image go: row j holds the cells of one image, in location order
        if "cluster" in grids:
            cells = np.lexsort((grids["location"].reshape(-1), grids["cluster"].reshape(-1))).reshape(share, m * m)
            images = np.arange(share)
        else:
            images = np.flatnonzero(grids["mask"])
            cells = images[:, None]
        epoch, example = int(grids["epoch"][0]), grids["example"].reshape(-1)
        parts = [slice(start, start + _TASK) for start in range(0, len(cells), _TASK)]
        return batch, [self._pool.submit(self._fill, batch, epoch, example[cells[part, 0]], images[part], cells[part]) for part in parts]

    def _fill(self, batch: dict[str, np.ndarray], epoch: int, examples: np.ndarray, images: np.ndarray, cells: np.ndarray) -> None:
        if self._closed:
            return
        plan, side, resize = self._plan, self._plan.side, resizer()
        read = [self._reader(int(example)) for example in examples]
        boxes = [patch_boxes(*image.size, plan.grid, plan.overlap) for image, _ in read]
        # keyed by the example that stood here, so that a replacement is not the copy of its own appearance in the epoch
        draws = draw_many(self._augment, self._seed, epoch, examples.tolist(), boxes)
        batch["augment"].reshape(-1, PACKED)[cells.reshape(-1)] = draws.pack()
        k = plan.grid * plan.grid
        for number, ((image, used), places) in enumerate(zip(read, cells.tolist(), strict=True)):
            for box, place in zip(draws.box[number * k : (number + 1) * k].tolist(), places, strict=True):
                montage, cell = divmod(place, k)
                row, column = divmod(cell, plan.grid)
                target = batch["image"][montage, row * side : (row + 1) * side, column * side : (column + 1) * side]
                target[:] = np.asarray(resize(image.crop(box), side))
            if self._labels is not None:
                batch["label"][images[number]] = self._labels[used]

    @property
    def skipped(self) -> dict[int, str]:
        """Images met so far that could not be used, index -> message (on_error=skip)."""
        return dict(self._reader.skipped)

    def close(self) -> None:
        """Stop reading ahead."""
        self._closed = True
        self._waiting.clear()
        self._pool.shutdown(cancel_futures=True)
