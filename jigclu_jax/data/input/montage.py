"""Shuffling the patches of a group of images and pasting them into as many montages, with the labels of every cell."""

import numpy as np
from jaxtyping import Int32

from jigclu_jax.data.input.order import generator
from jigclu_jax.data.lazy_tf import Tensor, tensorflow
from jigclu_jax.errors import UserError

LARGEST_DEFAULT_GROUP = 256  # the authors' batch: all of its patches were shuffled together


def shuffle_group(configured: int, batch_size: int, hosts: int) -> int:
    """Number of consecutive images whose patches are shuffled together; `configured` 0 is the largest divisor of the batch up to 256.

    It depends on the global batch alone, so that hosts change no montage; UserError where a group would not lie whole on one host.
    """
    share = batch_size // hosts
    if configured < 0:
        raise UserError(f"method.shuffle_group={configured} is negative: set it to 0 (whole batch up to 256) or to a number of images")
    group = configured or max(d for d in range(1, min(batch_size, LARGEST_DEFAULT_GROUP) + 1) if batch_size % d == 0)
    if share % group:
        fits = max(d for d in range(1, min(share, group) + 1) if share % d == 0)
        chosen = f"method.shuffle_group={group}" if configured else f"method.shuffle_group=0 (here {group})"
        raise UserError(f"{chosen} does not divide a host's share of {share} images of the batch: set method.shuffle_group to {fits}")
    return group


def permutation(seed: int, step: int, group: int, size: int) -> Int32[np.ndarray, " size"]:
    """The order in which the patches of one group are pasted, a function of (seed, step, number of the group in the global batch)."""
    return generator(seed, step, group, 2).permutation(size).astype(np.int32)


def label_grids(order: Int32[np.ndarray, " n"], grid: int, first: int) -> tuple[Int32[np.ndarray, "g m m"], Int32[np.ndarray, "g m m"]]:
    """(cluster, location) of every cell of a group's montages; `first` is the position of its first image in the global batch.

    Patch number image * k + location goes where it stands in `order`: montage i holds order[i * k : (i + 1) * k] in row-major cells.
    """
    cells = order.reshape(-1, grid, grid)
    return (first + cells // (grid * grid)).astype(np.int32), (cells % (grid * grid)).astype(np.int32)


def group_layout(
    seed: int, step: int, group: int, size: int, grid: int
) -> tuple[Int32[np.ndarray, " n"], Int32[np.ndarray, "g m m"], Int32[np.ndarray, "g m m"]]:
    """(order, cluster, location) of the group of that number in the global batch of `step`, `size` images large."""
    order = permutation(seed, step, group, size * grid * grid)
    return (order, *label_grids(order, grid, group * size))


def assemble_tf(patches: Tensor, order: Tensor, grid: int) -> Tensor:
    """Paste the patches of a group into its montages, in TensorFlow: uint8 [g * k, p, p, 3] and int32 [g * k] -> uint8 [g, S, S, 3]."""
    tf = tensorflow()
    p = patches.shape[1]
    # numbers of the patches' rows of pixels in the order of the montages': one copy, where gathering patches and moving axes makes two
    rows = tf.reshape(order, [-1, grid, 1, grid]) * p + tf.range(p)[:, None]
    return tf.reshape(tf.gather(tf.reshape(patches, [-1, p * 3]), tf.reshape(rows, [-1])), [-1, grid * p, grid * p, 3])
