"""Shuffles the crops of a group of images into montages, and makes the labels of every cell."""

import dataclasses

import numpy as np
from jaxtyping import Int32

from jigclu_jax.data.input.order import generator
from jigclu_jax.data.lazy_tf import Tensor, tensorflow
from jigclu_jax.data.view import View
from jigclu_jax.errors import UserError, counted

LARGEST_DEFAULT_GROUP = 256  # the authors' batch: all of its patches were shuffled together


def shuffle_group(view: View, batch_size: int, hosts: int) -> int:
    """Number of consecutive images whose crops are shuffled together; `view.group` 0 is the largest divisor of the batch up to 256.

    It depends on the global batch alone, so that hosts change no montage.

    Raises:
      UserError: a group would not lie whole on one host, or does not fill whole montages.
    """
    local = batch_size // hosts

    def whole(images: int) -> bool:
        return images * view.crops % (view.montage * view.montage) == 0

    default = [d for d in range(1, min(batch_size, LARGEST_DEFAULT_GROUP) + 1) if batch_size % d == 0 and whole(d)]
    group = view.group or max(default, default=0)
    if not group or not whole(group):
        view.pictures(group or batch_size)  # refuses it by name
    if local % group:
        fits = max((d for d in range(1, min(local, group) + 1) if local % d == 0 and whole(d)), default=0)
        chosen = f"config.method.shuffle_group={group}" if view.group else f"config.method.shuffle_group=0 (here {group})"
        way_out = f"set config.method.shuffle_group to {fits}" if fits else "use another batch_size"
        raise UserError(f"{chosen} does not divide a host's part of {counted(local, 'image')} of the batch: {way_out}")
    return group


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the crops of one host's images stand in its montages at one step.

    Crop number image * k + position, with the image's place among the host's own, stands in the n-th cell if order[n] is that number:
    montages one after the other, cells row-major.

    Attributes:
      order: crops by cell.
      cluster: each cell's image, by its place in the global batch.
      position: which of its image's k crops a cell holds.
      location: the region of the image that a cell shows.
    """

    order: Int32[np.ndarray, " n"]
    cluster: Int32[np.ndarray, "g m m"]
    position: Int32[np.ndarray, "g m m"]
    location: Int32[np.ndarray, "g m m"]

    def grids(self) -> dict[str, Int32[np.ndarray, "g m m"]]:
        """What a batch says of every cell."""
        return {name: getattr(self, name) for name in GRIDS}


GRIDS = ("cluster", "position", "location")


def layout(view: View, seed: int, step: int, *, group: int, local: int, host: int, stream: int = 0) -> Layout:
    """The layout of a host's `local` images, shuffled within groups by random numbers of (seed, step, group in the global batch).

    `stream` is the number of the view in its method.
    """
    groups, crops, m = local // group, view.crops, view.montage
    size = group * crops
    orders = [
        own * size + generator(seed, step, host * groups + own, _SHUFFLE + stream).permutation(size).astype(np.int32)
        for own in range(groups)
    ]
    order = np.concatenate(orders)
    cells = order.reshape(-1, m, m)
    position = cells % crops
    return Layout(order, host * local + cells // crops, position, position % (view.grid * view.grid))


_SHUFFLE = 2  # of the streams of `generator`: the first view's


def assemble(patches: Tensor, order: Tensor, m: int) -> Tensor:
    """Paste the crops into montages, in TensorFlow: uint8 [n, p, p, 3] and int32 [n] -> uint8 [n / m^2, m * p, m * p, 3]."""
    tf = tensorflow()
    p = patches.shape[1]
    # numbers of the patches' rows of pixels in the order of the montages': one copy, where gathering patches and moving axes makes two
    rows = tf.reshape(order, [-1, m, 1, m]) * p + tf.range(p)[:, None]
    return tf.reshape(tf.gather(tf.reshape(patches, [-1, p * 3]), tf.reshape(rows, [-1])), [-1, m * p, m * p, 3])
