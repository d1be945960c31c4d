"""Two views of the same images: positive pairs for a backbone that no method's own batches say anything about."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64
from ml_collections import ConfigDict

from jigclu_jax.data.augment.boxes import patch_boxes
from jigclu_jax.data.augment.crops import crop_patches
from jigclu_jax.data.augment.parameters import draw
from jigclu_jax.data.sources.opening import Source


def two_views(
    source: Source,
    indices: Int64[np.ndarray, " n"],
    augment: ConfigDict,
    side: int,
    *,
    seed: int,
    batch_size: int,
    host: int = 0,
    hosts: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
    """Batches of the first view of every image, then of the second: random resized crops, mirrored or not, by `augment`.

    As `data/input/evaluation.py` yields them: image uint8[b, side, side, 3], label int32[b] (-1), mask bool[b] (False: padding), b =
    batch_size / hosts.
    """
    share = batch_size // hosts
    for view in range(2):
        for begin in range(0, len(indices), batch_size):
            own = indices[begin : begin + batch_size][host * share : (host + 1) * share]
            image = np.zeros((share, side, side, 3), np.uint8)
            for place, index in enumerate(own.tolist()):
                whole = source.read(index)
                draws = draw(augment, seed, view, index, patch_boxes(whole.shape[1], whole.shape[0], 1, 0.0))
                image[place] = crop_patches(whole, draws, side)[0]
            yield {"image": image, "label": np.full(share, -1, np.int32), "mask": np.arange(share) < len(own)}
