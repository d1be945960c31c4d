"""A few examples at every stage of the pipeline, for pictures: image, cells, crops, augmented patches, montages."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32, UInt8
from ml_collections import ConfigDict

from jigclu_jax.data.augment import host_pictures as tf_ops
from jigclu_jax.data.augment.boxes import patch_boxes
from jigclu_jax.data.augment.crops import crop_patches
from jigclu_jax.data.augment.parameters import Steps, draw
from jigclu_jax.data.input.order import epoch_order
from jigclu_jax.data.input.pipeline import train_batches
from jigclu_jax.data.input.plan import plan_for
from jigclu_jax.data.sources.opening import Source
from jigclu_jax.data.sources.reader import ImageReader


@dataclass(frozen=True)
class Stages:
    """One example: `cells` are the overlapping patches of the image, `boxes` the random crops inside them, as (left, top, right, bottom).

    In location order; `crops` are the boxes resized (and mirrored), `patches` the same after colour and blur.
    """

    image: UInt8[np.ndarray, "h w 3"]
    cells: Int32[np.ndarray, "k 4"]
    boxes: Int32[np.ndarray, "k 4"]
    crops: UInt8[np.ndarray, "k p p 3"]
    patches: UInt8[np.ndarray, "k p p 3"]


def preview(
    source: Source, data_config: ConfigDict, augment_config: ConfigDict, *, seed: int, count: int
) -> tuple[dict[str, np.ndarray], list[Stages]]:
    """(montage batch, stages) of the first `count` examples of a run's first epoch, as a batch of that size would hold them.

    The batch is what `train_batches(view="montage")` yields; image i of the stages is cluster i of its label grids.
    """
    n = len(source)
    count = min(count, n)
    data_config = data_config.copy_and_resolve_references()
    data_config.shuffle_group = 0
    plan = plan_for(source, data_config, augment_config, "montage", count, n // count, 0, 1)
    stream = train_batches(
        source, data_config, augment_config, view="montage", seed=seed, batch_size=count, steps_per_epoch=n // count, stop_step=1
    )
    batch = next(stream)
    stream.close()
    reader = ImageReader(source, plan.min_side, data_config.on_error, "data")
    steps = Steps.of(augment_config)
    stages = []
    for example in epoch_order(seed, 0, n)[:count].tolist():
        image, _ = reader(example)
        cells = patch_boxes(image.shape[1], image.shape[0], plan.grid, plan.overlap)
        draws = draw(augment_config, seed, 0, example, cells)
        crops = crop_patches(image, draws, plan.side)
        patches = np.asarray(tf_ops.augment(crops, draws.pack(), steps))
        stages.append(Stages(image, cells, draws.box, crops, patches))
    return batch, stages
