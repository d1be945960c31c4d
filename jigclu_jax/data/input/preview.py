"""One image at every stage of a view, for pictures: regions, boxes, crops, augmented crops."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32, UInt8

from jigclu_jax.data.augment import host_pictures
from jigclu_jax.data.augment.crops import crop_patches
from jigclu_jax.data.augment.parameters import Parameters
from jigclu_jax.data.input.cells import crop_parameters, crop_regions, draw_frames
from jigclu_jax.data.lazy_tf import has_tensorflow
from jigclu_jax.data.view import View


@dataclass(frozen=True)
class Stages:
    """One image: `regions` are the overlapping parts that crops are taken from, one a crop, as (left, top, right, bottom).

    `crops` are the boxes of `parameters`, resized and not mirrored; `patches` the same as a method sees them, None without TensorFlow.
    """

    image: UInt8[np.ndarray, "h w 3"]
    regions: Int32[np.ndarray, "k 4"]
    parameters: Parameters
    crops: UInt8[np.ndarray, "k p p 3"]
    patches: UInt8[np.ndarray, "k p p 3"] | None


def stages(view: View, number: int, seed: int, epoch: int, example: int, image: UInt8[np.ndarray, "h w 3"]) -> Stages:
    """The stages of image `example` of the data set in view `number` of a method."""
    height, width = image.shape[:2]
    image_and_size = [example], [(width, height)]
    regions = crop_regions(view, image_and_size[1], draw_frames(view, number, seed, epoch, *image_and_size))
    parameters = crop_parameters(view, number, seed, epoch, *image_and_size)
    crops = crop_patches(image, parameters, view.side, flip=False)
    patches = None
    if has_tensorflow():
        mirrored = crop_patches(image, parameters, view.side)
        patches = np.asarray(host_pictures.augment(mirrored, parameters.records(), view.colours))
    return Stages(image, regions, parameters, crops, patches)
