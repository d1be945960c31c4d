"""Batches of random crops of the same images: positive pairs to judge any backbone by, and what features are averaged over."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64

from jigclu_jax.data.augment.crops import crop_patches
from jigclu_jax.data.input.cells import crop_parameters
from jigclu_jax.data.sources.opening import Source
from jigclu_jax.data.view import View


def random_crops(
    source: Source,
    indices: Int64[np.ndarray, " n"],
    crop: View,
    *,
    count: int,
    seed: int,
    batch_size: int,
    part: tuple[int, int] = (0, 1),
) -> Iterator[dict[str, np.ndarray]]:
    """Batches of one random `crop` of every image, then of another one, `count` in all; of each, this host's part (its number, how many).

    As `data/input/evaluation.py` yields them: image uint8[b, side, side, 3], label int32[b] (-1), mask bool[b] (False: padding), b =
    batch_size / hosts.
    """
    host, hosts = part
    local, side = batch_size // hosts, crop.side
    for view in range(count):
        for begin in range(0, len(indices), batch_size):
            own = indices[begin : begin + batch_size][host * local : (host + 1) * local]
            image = np.zeros((local, side, side, 3), np.uint8)
            for place, index in enumerate(own.tolist()):
                whole = source.read(index)
                parameters = crop_parameters(crop, view, seed, 0, [index], [(whole.shape[1], whole.shape[0])])
                image[place] = crop_patches(whole, parameters, side)[0]
            yield {"image": image, "label": np.full(local, -1, np.int32), "mask": np.arange(local) < len(own)}
