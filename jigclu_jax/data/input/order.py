"""Order of the examples in every epoch, a function of (seed, epoch) with no state to save.

A step is enough to find its examples, so a resumed run, another number of hosts or another number of threads meets the
same batches.
"""

import threading
from collections import OrderedDict

import numpy as np
from jaxtyping import Int64

from jigclu_jax.errors import UserError, counted

_MASK = (1 << 64) - 1


def generator(seed: int, period: int, index: int, stream: int) -> np.random.Generator:
    """Random numbers of their own for (seed, period, index) of one stream (0: the epoch's order, from 2 on: the shuffle of
    each view).

    `period` is the epoch or the step. Philox is counter-based: the low two words of the counter are what drawing advances.
    """
    # as uint64 from the start: numpy would take a list with a number over 2 ** 63 for floats
    key = np.array([seed & _MASK, period & _MASK], np.uint64)
    counter = np.array([0, 0, index & _MASK, stream], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def epoch_order(seed: int, epoch: int, n: int) -> Int64[np.ndarray, " n"]:
    """A permutation of the n examples, another one every epoch."""
    return generator(seed, epoch, 0, 0).permutation(n).astype(np.int64)


def steps_per_epoch(n: int, batch_size: int, drop_last: bool = True) -> int:
    """Number of batches in an epoch of n examples; UserError where not even one batch can be filled."""
    if n < 1:
        raise UserError("the data set has no examples")
    if drop_last and batch_size > n:
        raise UserError(f"batch_size={batch_size} is larger than the data set of {counted(n, 'image')}: set batch_size to at most {n}")
    return n // batch_size if drop_last else -(-n // batch_size)


class EpochOrders:
    """The last few epoch orders, kept because a permutation of ImageNet takes 80 ms; safe for several threads."""

    def __init__(self, seed: int, n: int, keep: int = 2) -> None:
        self._seed, self._n, self._keep = seed, n, keep
        self._orders: OrderedDict[int, Int64[np.ndarray, " n"]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, epoch: int) -> Int64[np.ndarray, " n"]:
        """`epoch_order` of that epoch."""
        with self._lock:
            if epoch not in self._orders:
                while len(self._orders) >= self._keep:
                    self._orders.popitem(last=False)
                self._orders[epoch] = epoch_order(self._seed, epoch, self._n)
            return self._orders[epoch]


def host_positions(step: int, steps_per_epoch: int, batch_size: int, host: int, hosts: int) -> tuple[int, Int64[np.ndarray, " b"]]:
    """(epoch, positions in the epoch's order) of what one host loads at a step: its contiguous part of the global batch.

    The positions may run past the data set's end in the last batch of an epoch that keeps its partial batch.
    """
    epoch, within = divmod(step, steps_per_epoch)
    local = batch_size // hosts
    return epoch, within * batch_size + host * local + np.arange(local, dtype=np.int64)


def step_examples(seed: int, step: int, n: int, steps_per_epoch: int, batch_size: int) -> Int64[np.ndarray, " b"]:
    """The examples of the global batch of a step (0 is the first), on any number of hosts; fewer than batch_size at an epoch's end."""
    epoch, positions = host_positions(step, steps_per_epoch, batch_size, 0, 1)
    return epoch_order(seed, epoch, n)[positions[positions < n]]
