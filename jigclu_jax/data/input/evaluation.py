"""Batches of evaluation images: resized, centre-cropped, in order, read by a few threads ahead of their use; no TensorFlow needed."""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict

from jigclu_jax.config.fields import check_values
from jigclu_jax.config.schema import EVALUATION
from jigclu_jax.data.augment.crops import resize_and_centre_crop
from jigclu_jax.data.input.sampler import check_hosts
from jigclu_jax.data.sources.opening import Source
from jigclu_jax.data.sources.reader import ImageReader

_AHEAD = 2  # batches being read beside the one being used

Example = tuple[UInt8[np.ndarray, "s s 3"], bool]  # image, whether it counts


class EvalStream(Iterator[dict[str, np.ndarray]]):
    """One pass in order over a source: short side to eval_config.resize, centre crop of eval_config.crop (torchvision's transforms).

    Yields image uint8[b, crop, crop, 3], label int32[b] (-1: none), mask bool[b] (False: padding of the last batch, and images left
    out by on_error=skip), the same number of batches on every host, b = batch_size / hosts. Raises UserError and ImageError, which
    names the fields of the config's `group`.
    """

    def __init__(
        self, source: Source, eval_config: ConfigDict, *, batch_size: int, host: int = 0, hosts: int = 1, group: str = "eval_data"
    ) -> None:
        check_hosts(batch_size, host, hosts)
        check_values(eval_config, {name: EVALUATION[name] for name in ("resize", "crop", "on_error")}, "eval_data.")
        self._source, self._resize, self._crop = source, eval_config.resize, eval_config.crop
        self._reader = ImageReader(source, max(eval_config.min_side, 1), eval_config.on_error, group)
        self._labels = source.labels
        batches, local = -(-len(source) // batch_size), batch_size // hosts
        self._positions = iter(np.arange(batches * batch_size).reshape(batches, hosts, local)[:, host].tolist())
        self._pool = ThreadPoolExecutor(max(os.cpu_count() or 1, 2), "eval-images")
        self._waiting: deque[tuple[list[int], list[Future[Example]]]] = deque()

    def __next__(self) -> dict[str, np.ndarray]:
        while len(self._waiting) <= _AHEAD and (positions := next(self._positions, None)) is not None:
            self._waiting.append((positions, [self._pool.submit(self._read, position) for position in positions]))
        if not self._waiting:
            self.close()
            raise StopIteration
        positions, futures = self._waiting.popleft()
        try:
            examples = [future.result() for future in futures]
        except Exception:
            self.close()
            raise
        mask = np.array([counts for _, counts in examples])
        label = np.full(len(positions), -1, np.int32)
        if self._labels is not None:
            label[mask] = self._labels[np.array(positions)[mask]]
        return {"image": np.stack([image for image, _ in examples]), "label": label, "mask": mask}

    def _read(self, position: int) -> Example:
        nothing = np.zeros((self._crop, self._crop, 3), np.uint8)
        if position >= len(self._source):
            return nothing, False
        image, used = self._reader(position)
        return (resize_and_centre_crop(image, self._resize, self._crop), True) if used == position else (nothing, False)

    @property
    def skipped(self) -> dict[int, str]:
        """Images met so far that could not be used, index -> message (on_error=skip)."""
        return dict(self._reader.skipped)

    def close(self) -> None:
        """Stop reading ahead."""
        self._waiting.clear()
        self._pool.shutdown(cancel_futures=True)
