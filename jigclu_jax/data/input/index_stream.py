"""Which image and which of its patches stands in which cell of every batch: what resident data needs of the host, without TensorFlow.

The numbers are those of `data/input/pipeline.py`: the same examples in the same cells at the same step, whatever the number of hosts.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int32

from jigclu_jax.data.input import montage
from jigclu_jax.data.input.order import EpochOrders, host_positions
from jigclu_jax.data.input.plan import Plan


class IndexStream(Iterator[dict[str, np.ndarray]]):
    """Iterator over the cell grids of steps start_step..stop_step of this host, a few kilobytes a step.

    Yields example, cluster, location int32[b, m, m] (the image in the data set, its position in the global batch, the patch's
    place in it) and epoch int32[b], with `labels` also label int32[b], that of the image whose cluster id is the label's place in the
    global batch; for single crops (m = 1) instead of cluster and location label int32[b] (-1: none) and mask bool[b] (False: padding
    of an epoch's last batch).
    """

    def __init__(
        self,
        count: int,
        labels: Int32[np.ndarray, " n"] | None,
        plan: Plan,
        *,
        view: str,
        seed: int,
        batch_size: int,
        steps_per_epoch: int,
        start_step: int = 0,
        stop_step: int | None = None,
        host: int = 0,
        hosts: int = 1,
    ) -> None:
        self._labels, self._plan, self._view, self._seed = labels, plan, view, seed
        self._orders = EpochOrders(seed, count)
        self._places = (steps_per_epoch, batch_size, host, hosts)
        self._step, self._stop = start_step, stop_step
        self.skipped: dict[int, str] = {}  # images that cannot be used were met when the data set was loaded

    def __next__(self) -> dict[str, np.ndarray]:
        if self._stop is not None and self._step >= self._stop:
            raise StopIteration
        steps_per_epoch, batch_size, host, hosts = self._places
        epoch, positions = host_positions(self._step, steps_per_epoch, batch_size, host, hosts)
        order = self._orders(epoch)
        inside = positions < len(order)
        examples = order[np.minimum(positions, len(order) - 1)].astype(np.int32)
        batch: dict[str, np.ndarray] = {"epoch": np.full(len(examples), epoch, np.int32)}
        if self._view == "montage":
            batch |= self._montages(examples, host)
            if self._labels is not None:
                batch["label"] = self._labels[examples]
        else:
            label = np.full_like(examples, -1) if self._labels is None else self._labels[examples]
            batch |= {"example": examples[:, None, None], "label": np.where(inside, label, -1), "mask": inside}
        self._step += 1
        return batch

    def _montages(self, examples: Int32[np.ndarray, " b"], host: int) -> dict[str, np.ndarray]:
        plan, groups = self._plan, self._plan.share // self._plan.group
        layouts = [
            montage.group_layout(self._seed, self._step, host * groups + group, plan.group, plan.grid)[1:] for group in range(groups)
        ]
        cluster, location = (np.concatenate(parts) for parts in zip(*layouts, strict=True))
        return {"cluster": cluster, "location": location, "example": examples[cluster - host * plan.share]}

    def close(self) -> None:
        """Nothing is held."""
