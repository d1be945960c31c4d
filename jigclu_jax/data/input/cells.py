"""Reads a few images, cuts their crops and writes each where it belongs in its view: the task of one thread or process."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Int32, Int64, UInt8

from jigclu_jax.data.augment.boxes import mirrored, patch_boxes
from jigclu_jax.data.augment.crops import cut, resizer
from jigclu_jax.data.augment.parameters import RECORD, Parameters, draw
from jigclu_jax.data.augment.streams import crop_keys
from jigclu_jax.data.sources.reader import ImageReader
from jigclu_jax.data.view import View, shape_of

# The pictures of a view, uint8, and the records of their crops, uint8[cells, bytes], in the order of the pictures.
Pictures = tuple[UInt8[np.ndarray, "..."], UInt8[np.ndarray, "_ bytes"]]


def crop_parameters(
    view: View, number: int, seed: int, epoch: int | Int64[np.ndarray, " c"], examples: Sequence[int], sizes: Sequence[tuple[int, int]]
) -> Parameters:
    """The parameters of all crops of some images, k rows an image in the order of their positions.

    Args:
      view: which crops.
      number: of the view in its method.
      seed: of the run.
      epoch: the images' own, one or of each (`Sampler.draws`).
      examples: what random numbers are keyed by.
      sizes: (width, height) of each image in pixels.
    """
    position = np.tile(np.arange(view.crops), len(examples))
    epochs = np.broadcast_to(epoch, len(examples))
    key = crop_keys(seed, np.repeat(epochs, view.crops), np.repeat(np.asarray(examples), view.crops), number, position)
    frames = draw_frames(view, number, seed, epochs, examples, sizes)
    regions = crop_regions(view, sizes, frames)
    if frames is None:
        return draw(view.law, key, regions)
    every = Parameters(**{name: np.repeat(values, view.crops, axis=0) for name, values in vars(frames).items()})
    return draw(view.law, key, regions, relative=True).within(every)


def draw_frames(
    view: View, number: int, seed: int, epoch: int | Int[np.ndarray, " c"], examples: Sequence[int], sizes: Sequence[tuple[int, int]]
) -> Parameters | None:
    """The parameters of the images' frames, one row an image, None where the view has none; their position is the one behind all crops'."""
    if view.frame is None:
        return None
    whole = np.array([(0, 0, width, height) for width, height in sizes], np.int32)
    return draw(view.frame, crop_keys(seed, epoch, np.asarray(examples), number, view.crops), whole)


def crop_regions(view: View, sizes: Sequence[tuple[int, int]], frames: Parameters | None) -> Int32[np.ndarray, "n 4"]:
    """(left, top, right, bottom) in the image of the region that each crop is taken from, k rows an image.

    Of a frame that is to be mirrored, the first column of regions is the last one.
    """
    boxes = []
    for number, (width, height) in enumerate(sizes):
        left, top, right, bottom = (0, 0, width, height) if frames is None else frames.box[number].tolist()
        own = patch_boxes(right - left, bottom - top, view.grid, view.overlap) + np.array([left, top, left, top], np.int32)
        if frames is not None and frames.flip[number]:
            own = own[mirrored(np.arange(len(own), dtype=np.int32), view.grid)]
        boxes += [own] * view.repeats
    return np.concatenate(boxes)


@dataclass(frozen=True)
class CellMaker:
    """Makes the crops of images for every view, without colour, blur and flip; can be pickled where its source can.

    Attributes:
      reader: opens the images.
      views: of the method.
      seed: of the run.
    """

    reader: ImageReader
    views: tuple[View, ...]
    seed: int

    def __call__(
        self, pictures: Sequence[Pictures], draws: Int64[np.ndarray, " c"], examples: Sequence[int], cells: Sequence[Int[np.ndarray, "c _"]]
    ) -> list[int]:
        """Write the crops of c images into the cells (numbered through the view's pictures) and their records beside them.

        Returns the numbers of the images that were read: others than `examples` where one gave way to the next. Raises ImageError.
        """
        resize = resizer()
        read = [self.reader(example) for example in examples]
        sizes = [(image.shape[1], image.shape[0]) for image, _ in read]
        for number, (view, (target, records), places) in enumerate(zip(self.views, pictures, cells, strict=True)):
            # keyed by the example that stood here, so that a replacement is not the copy of its own appearance in the epoch
            parameters = crop_parameters(view, number, self.seed, draws, examples, sizes)
            records[places.reshape(-1)] = parameters.records()
            boxes = parameters.box.reshape(len(examples), -1, 4).tolist()
            for (image, _), own, numbers in zip(read, boxes, places.tolist(), strict=True):
                for box, place in zip(own, numbers, strict=True):
                    cell_of(view, target, place)[:] = resize(cut(image, box), view.side)
        return [used for _, used in read]


def cell_of(view: View, pictures: UInt8[np.ndarray, "..."], place: int) -> UInt8[np.ndarray, "side side 3"]:
    """The pixels of a cell, as a view: cells count through the pictures, row-major within a montage."""
    if not view.montage:
        return pictures.reshape(-1, view.side, view.side, 3)[place]
    montage, cell = divmod(place, view.montage * view.montage)
    row, column = divmod(cell, view.montage)
    return pictures[montage, row * view.side : (row + 1) * view.side, column * view.side : (column + 1) * view.side]


def empty_pictures(view: View, images: int) -> Pictures:
    """Zeros for the crops of so many images."""
    return np.zeros(shape_of(view, images), np.uint8), np.zeros((images * view.crops, RECORD.itemsize), np.uint8)
