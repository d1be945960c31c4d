"""Chooses the images of every batch and the layout of their crops: functions of the step, with no state to save."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int, Int64

from jigclu_jax.data.augment.boxes import mirrored
from jigclu_jax.data.augment.parameters import flips
from jigclu_jax.data.augment.streams import crop_keys
from jigclu_jax.data.input.montage import Layout, layout, shuffle_group
from jigclu_jax.data.input.order import EpochOrders, host_positions
from jigclu_jax.data.view import View
from jigclu_jax.errors import UserError, counted

# An epoch -> the images in the order in which they are seen; as many as the data set has.
EpochOrder = Callable[[int], Int[np.ndarray, " n"]]

# An image that an epoch shows again is drawn as if in a later epoch than any: `config.epochs` is at most 10 ** 6. The word stays an int32.
_REPETITION, _MOST_REPETITIONS = 2**20, 2**11


class Sampler:
    """The images of one host's part of every batch; whatever the hosts and wherever a run began, the same global batch at the same step.

    Args:
      images: size of the data set.
      views: of the method.
      seed: of the run.
      batch_size: images a step, over all hosts.
      steps_per_epoch: a partial last batch counts where the method takes one.
      host: this one's number.
      hosts: how many there are.

    Raises:
      UserError: sizes that do not fit each other.
    """

    def __init__(
        self, images: int, views: Sequence[View], *, seed: int, batch_size: int, steps_per_epoch: int, host: int = 0, hosts: int = 1
    ) -> None:
        check_hosts(batch_size, host, hosts)
        if not 1 <= steps_per_epoch <= -(-images // batch_size):
            raise UserError(
                f"{counted(steps_per_epoch, 'step')} of {batch_size} an epoch do not fit a data set of {counted(images, 'image')}"
            )
        for view in views:
            view.check()
        self.views, self.seed, self.batch_size, self.steps_per_epoch = tuple(views), seed, batch_size, steps_per_epoch
        self.host, self.hosts, self.local = host, hosts, batch_size // hosts
        self.groups = tuple(shuffle_group(view, batch_size, hosts) if view.montage else 0 for view in views)
        self._order: EpochOrder = EpochOrders(seed, images)
        self._repetitions: EpochOrder | None = None  # none in a permutation

    def in_order(self, order: EpochOrder) -> "Sampler":
        """The same sampler with epochs in another order than a random one."""
        other = object.__new__(Sampler)
        other.__dict__.update(self.__dict__)
        other._order = order
        other._repetitions = functools.lru_cache(2)(lambda epoch: repetitions(order(epoch)))
        return other

    def examples(self, step: int) -> tuple[int, Int64[np.ndarray, " b"]]:
        """(epoch, index in the data set of each image of this host's part); -1: padding of an epoch's last batch."""
        epoch, positions = host_positions(step, self.steps_per_epoch, self.batch_size, self.host, self.hosts)
        order = self._order(epoch).astype(np.int64, copy=False)
        return epoch, np.where(positions < len(order), order[np.minimum(positions, len(order) - 1)], -1)

    def draws(self, step: int) -> Int64[np.ndarray, " b"]:
        """The word by which, beside the image's index, the random numbers of its crops are drawn: the epoch, and another one each time that
        the epoch's order repeats an image, which is then not shown with the same crops again.
        """
        epoch, positions = host_positions(step, self.steps_per_epoch, self.batch_size, self.host, self.hosts)
        if self._repetitions is None:
            return np.full(len(positions), epoch, np.int64)
        before = self._repetitions(epoch)
        return epoch + _REPETITION * (before[np.minimum(positions, len(before) - 1)].astype(np.int64) % _MOST_REPETITIONS)

    def layout(self, number: int, step: int) -> Layout:
        """Where the crops of this host's images stand in the montages of view `number`."""
        sizes = {"group": self.groups[number], "local": self.local, "host": self.host}
        view = self.views[number]
        found = layout(view, self.seed, step, stream=number, **sizes)
        if not view.mirrored:
            return found
        image = found.cluster.reshape(-1) - self.host * self.local
        crops = self.draws(step)[image], self.examples(step)[1][image], number, found.position.reshape(-1)
        flip = flips(view.law, crop_keys(self.seed, *crops)).reshape(found.position.shape)
        return dataclasses.replace(found, location=np.where(flip, mirrored(found.location, view.grid), found.location))


def repetitions(order: Int[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Of each place of a list: how often its number stands before it."""
    places = np.argsort(order, kind="stable")
    _, starts, counts = np.unique(order[places], return_index=True, return_counts=True)
    found = np.empty(len(order), np.int64)
    found[places] = np.arange(len(order)) - np.repeat(starts, counts)
    return found


def check_hosts(batch_size: int, host: int, hosts: int) -> None:
    """UserError for a global batch that the hosts cannot split evenly."""
    if batch_size < 1 or batch_size % hosts:
        raise UserError(f"batch_size={batch_size} does not divide among {hosts} hosts: set it to a multiple of {hosts}")
    if not 0 <= host < hosts:
        raise ValueError(f"host {host} of {hosts}")
